# What the system says of itself, beside what the shell reads from /proc.

tests sysinfo uname hostname id whoami nproc date cal df

sysinfo_uname() {
	read -r release </proc/sys/kernel/osrelease
	is "Linux $release" "$("$BUSYBOX" uname -sr)"
}

sysinfo_hostname() {
	read -r name </proc/sys/kernel/hostname
	is "$name" "$("$BUSYBOX" hostname)"
}

# status KEY sets $value to a line of /proc/self/status.
status() {
	while read -r key value; do
		[ "$key" = "$1:" ] && return
	done </proc/self/status
}

sysinfo_id() {
	status Uid # real, effective, saved, file system
	set -- $value
	is "$2 $1" "$("$BUSYBOX" id -u) $("$BUSYBOX" id -ru)"
	status Gid
	set -- $value
	is "$2" "$("$BUSYBOX" id -g)"
}

# A user without a name is an error.
sysinfo_whoami() {
	status Uid
	set -- $value
	want=
	while IFS=: read -r name _ uid _; do
		[ "$uid" = "$2" ] && want=$name && break
	done </etc/passwd
	is "$want" "$("$BUSYBOX" whoami 2>/dev/null)"
}

# The mask is hexadecimal, in words separated by commas.
sysinfo_nproc() {
	status Cpus_allowed
	cpus=0
	while [ "$value" ]; do
		digit=${value%"${value#?}"} value=${value#?}
		case $digit in
		[1248]) cpus=$((cpus + 1)) ;;
		[3569aAcC]) cpus=$((cpus + 2)) ;;
		[7bBdDeE]) cpus=$((cpus + 3)) ;;
		[fF]) cpus=$((cpus + 4)) ;;
		esac
	done
	is "$cpus" "$("$BUSYBOX" nproc)"
}

sysinfo_date() {
	is '1970-01-02 00:00:00' "$("$BUSYBOX" date -u -d @86400 '+%Y-%m-%d %H:%M:%S')"
	is '951782400 Tuesday' "$("$BUSYBOX" date -u -d '2000-02-29 00:00:00' '+%s %A')"
}

sysinfo_cal() {
	is 'February 2000 Su Mo Tu We Th Fr Sa 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29' \
		"$("$BUSYBOX" cal 2 2000 | "$BUSYBOX" tr -s ' \n' ' ' | "$BUSYBOX" sed 's/^ //; s/ $//')"
}

# procfs has no blocks.
sysinfo_df() {
	is '0 0 0 /proc' "$("$BUSYBOX" df -P /proc | "$BUSYBOX" awk 'NR == 2 { print $2, $3, $4, $6 }')"
}
