# Undoes `issue`, but keeps a first certificate. STATE
state=$1
issue=$state/issue
[ -d "$state" ] || exit 0
take_turn "$state"
take_back but-the-lineage
section unissued
