# The devices that every container has.

tests devices null zero full urandom stdin fd nodes

devices_null() {
	is '' "$("$BUSYBOX" cat /dev/null)"
	printf 'swallowed' | "$BUSYBOX" dd of=/dev/null 2>/dev/null
	is 0 $?
}

devices_zero() {
	"$BUSYBOX" dd if=/dev/zero of=file bs=1000 count=3 2>/dev/null
	is '3000 0' "$("$BUSYBOX" wc -c <file) $("$BUSYBOX" tr -d '\0' <file | "$BUSYBOX" wc -c)"
}

# It reads as zeros and has no room.
devices_full() {
	is 000000 "$("$BUSYBOX" head -c 3 /dev/full | "$BUSYBOX" xxd -p)"
	"$BUSYBOX" dd if=/dev/zero of=/dev/full bs=512 count=1 2>message
	is 1 $?
	is 1 "$("$BUSYBOX" grep -c 'No space left on device' message)"
}

devices_urandom() {
	"$BUSYBOX" head -c 32 /dev/urandom >one
	"$BUSYBOX" head -c 32 /dev/urandom >two
	is '32 32' "$("$BUSYBOX" wc -c <one) $("$BUSYBOX" wc -c <two)"
	"$BUSYBOX" cmp -s one two
	is 1 $?
}

devices_stdin() {
	is 'from the pipe' "$(printf 'from the pipe\n' | "$BUSYBOX" cat /dev/stdin)"
}

devices_fd() {
	printf 'fifth\n' >file
	is fifth "$("$BUSYBOX" cat /dev/fd/5 5<file)"
}

devices_nodes() {
	is '1:3 1:5 1:7 1:9' "$("$BUSYBOX" stat -c %t:%T /dev/null /dev/zero /dev/full /dev/urandom |
		"$BUSYBOX" paste -s -d ' ')"
	is 'character special file' "$("$BUSYBOX" stat -c %F /dev/null)"
}
