# Many processes in a short time.

tests stress true50 parallel pipeline nested

stress_true50() {
	done=0
	while [ $done -lt 50 ] && "$BUSYBOX" true; do
		done=$((done + 1))
	done
	is 50 $done
}

# All 20 live at a time; 0 + 1 + ... + 19 = 190.
stress_parallel() {
	pids= i=0 sum=0
	while [ $i -lt 20 ]; do
		"$BUSYBOX" sh -c "exit $i" &
		pids="$pids $!" i=$((i + 1))
	done
	for pid in $pids; do
		wait $pid
		sum=$((sum + $?))
	done
	is 190 $sum
}

# The sum is that of the lines 1 to 500.
stress_pipeline() {
	is '5705e3c0d0044b724281f9bcc7520d3a  -' "$("$BUSYBOX" seq 500 | "$BUSYBOX" cat | "$BUSYBOX" tac | "$BUSYBOX" cat |
		"$BUSYBOX" rev | "$BUSYBOX" cat | "$BUSYBOX" rev | "$BUSYBOX" tac | "$BUSYBOX" cat | "$BUSYBOX" md5sum)"
}

# Shells within shells, each adding one to what the one below says.
stress_nested() {
	printf '[ $1 = 0 ] && exit 0\n"$BUSYBOX" sh script $(($1 - 1))\nexit $(($? + 1))\n' >script
	"$BUSYBOX" sh script 10
	is 10 $?
}
