# Starting processes, and ending them.

tests processes true false env kill timeout xargs renice setsid ps

processes_true() {
	"$BUSYBOX" true
	is 0 $?
}

processes_false() {
	"$BUSYBOX" false
	is 1 $?
}

processes_env() {
	is 'A=1\nB=2 3' "$("$BUSYBOX" env -i A=1 'B=2 3' "$BUSYBOX" env | "$BUSYBOX" sort)"
	"$BUSYBOX" env ./missing 2>/dev/null
	is 127 $?
}

processes_kill() {
	"$BUSYBOX" sleep 60 &
	"$BUSYBOX" kill -TERM $!
	wait $! 2>/dev/null
	is 143 $?
	is KILL "$("$BUSYBOX" kill -l 9)"
}

processes_timeout() {
	"$BUSYBOX" timeout -s KILL 0.1 "$BUSYBOX" sleep 60 2>/dev/null
	is 137 $?
}

processes_xargs() {
	is 'a b\nc d\ne' "$(printf 'a b c\nd e\n' | "$BUSYBOX" xargs -n 2 "$BUSYBOX" echo)"
	printf '1\n' | "$BUSYBOX" xargs "$BUSYBOX" sh -c 'exit 5'
	is 123 $?
}

# Field 19 of stat is the nice value, of which 19 is the highest.
processes_renice() {
	was=$("$BUSYBOX" awk '{ print $19 }' /proc/self/stat)
	want=$((was + 3))
	[ "$want" -le 19 ] || want=19
	is "$want" "$("$BUSYBOX" sh -c '"$BUSYBOX" renice -n 3 -p $$; exec "$BUSYBOX" awk "{ print \$19 }" /proc/self/stat')"
}

# Fields 1 and 6 of stat are the PID and the session.
processes_setsid() {
	is leader "$("$BUSYBOX" setsid "$BUSYBOX" awk '$1 == $6 { print "leader" }' /proc/self/stat)"
}

# The shell says its PID and becomes ps, which must list that PID once.
processes_ps() {
	"$BUSYBOX" sh -c 'echo $$; exec "$BUSYBOX" ps -o pid' >list
	is 1 "$("$BUSYBOX" awk 'NR == 1 { pid = $1; next } $1 == pid { n++ } END { print n }' list)"
}
