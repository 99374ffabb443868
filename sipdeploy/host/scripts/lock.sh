# Takes the lock, so one apply at a time works on the host. STATE HOLDER PURPOSE SERIAL BREAKS
state=$1
lock_host "$2" "$3" "$4" "$5"
section locked
