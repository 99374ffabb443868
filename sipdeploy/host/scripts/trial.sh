# Prints the open trial, or what became of the last one. Changes nothing. STATE
state=$1
exec </dev/null 2>/dev/null
section clock; date +%s
section trial; cat "$state/undo/trial"
section holder; cat "$state/undo/holder"
section purpose; cat "$state/lock/purpose"
section audit; cat "$state/undo/audit"
section outcome; cat "$state/outcome"
section end
