# Keeps the result of a proof for `status`. FOLDER; the result on stdin. Without FOLDER there is nothing that was proved.
folder=$1
if [ ! -d "$folder" ]; then section none; exit 0; fi
head -c 65536 >"$folder/proof.new" && mv -fT "$folder/proof.new" "$folder/proof" || fail "cannot write $folder/proof"
section kept
