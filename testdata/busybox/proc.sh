# What /proc says of the process that reads it.

tests proc cmdline environ cwd exe fd pid limits version

proc_cmdline() {
	is "$BUSYBOX|cat|/proc/self/cmdline|" "$("$BUSYBOX" cat /proc/self/cmdline | "$BUSYBOX" tr '\0' '|')"
}

proc_environ() {
	is 'A=1|B=2 3|' "$("$BUSYBOX" env -i A=1 'B=2 3' "$BUSYBOX" cat /proc/self/environ | "$BUSYBOX" tr '\0' '|')"
}

proc_cwd() {
	"$BUSYBOX" mkdir below
	is "$(pwd -P)/below" "$(cd below && "$BUSYBOX" readlink /proc/self/cwd)"
}

proc_exe() {
	[ "$("$BUSYBOX" readlink /proc/self/exe)" -ef "$BUSYBOX" ]
	is 0 $?
}

proc_fd() {
	printf x >file
	is "$(pwd -P)/file" "$("$BUSYBOX" readlink /proc/self/fd/7 7<file)"
}

# An exec keeps the PID.
proc_pid() {
	"$BUSYBOX" sh -c 'echo $$; exec "$BUSYBOX" cat /proc/self/stat' >file
	is same "$("$BUSYBOX" awk 'NR == 1 { pid = $1; next } $1 == pid { print "same" }' file)"
}

proc_limits() {
	is 16 "$(ulimit -S -n 16 && "$BUSYBOX" awk '/^Max open files/ { print $4 }' /proc/self/limits)"
}

proc_version() {
	read -r release </proc/sys/kernel/osrelease
	is "Linux version $release" "$("$BUSYBOX" cut -d ' ' -f 1-3 /proc/version)"
}
