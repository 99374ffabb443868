#!/bin/sh
# Managed by sipdeploy: makes Kamailio reload the tables of sipdeploy.db. The table `loaded` has the digest of the database
# that they were loaded from. If that is the previous database, this script sets only the rows that differ, because whole
# tables of 100,000 rows take seconds.
new=/etc/kamailio/sipdeploy.db old=/var/lib/sipdeploy/undo/tree/etc/kamailio/sipdeploy.db
# kamcmd exits with 0 even if Kamailio refused; `loaded` comes last, and its digest must be that of the new database.
whole() {
    for table in credentials users names services loaded; do
        said=$(kamcmd htable.reload "$table" 2>&1) && case $said in *rror:*) false ;; esac || { echo "$table: $said"; exit 1; }
    done
    check
}
check() {
    held=$(kamcmd htable.get loaded s:digest 2>/dev/null | sed -n 's/.*value: *//p')
    [ -n "$held" ] && grep -qaF "$held" "$new" && exit 0
    echo "Kamailio has not loaded $new"
    exit 1
}
# One line for each row that differs: `delete` or `sets`, table, key, value.
changes() {
    echo "ATTACH '$old' AS old;"
    for table in credentials users names services; do
        echo "SELECT 'delete', '$table', key_name, '' FROM old.$table WHERE key_name NOT IN (SELECT key_name FROM $table);
            SELECT 'sets', '$table', key_name, a.key_value FROM $table AS a LEFT JOIN old.$table AS b USING (key_name)
            WHERE a.key_value IS NOT b.key_value;"
    done
}
held=$(kamcmd htable.get loaded s:digest 2>/dev/null | sed -n 's/.*value: *//p')
[ -n "$held" ] && [ -f "$old" ] && [ "$held" = "$(sqlite3 -readonly "$old" 'SELECT key_value FROM loaded' 2>/dev/null)" ] || whole
rows=$(changes | sqlite3 -bail -readonly -separator ' ' "$new") && [ -n "$rows" ] && [ "$(printf '%s\n' "$rows" | wc -l)" -le 500 ] || whole
# Credentials go to kamcmd on standard input, where no other process sees them. Names may contain spaces, so each is an
# argument.
said=$(printf '%s\n' "$rows" | sed -n '/^sets names /d; s/^\([a-z]* [a-z]*\) \([^ ]*\) \(.*\)/htable.\1 s:\2 s:\3/p' |
    sed 's/^\(htable.delete .*\) s:$/\1/' | kamcmd 2>&1)
case $said in *"error: 5"* | *ERROR*) whole ;; esac # 404 is no failure: the row to delete does not exist
printf '%s\n' "$rows" | sed -n 's/^sets names //p' | while read -r number name; do
    kamcmd htable.sets names "s:$number" "s:$name" || exit 1
done || whole
kamcmd htable.sets loaded s:digest "s:$(sqlite3 -readonly "$new" 'SELECT key_value FROM loaded')" || whole
check
