# Numbers, small and large.

tests arithmetic expr factor seq bc dc shell awk printf

arithmetic_expr() {
	is '42 3 -2' "$("$BUSYBOX" expr 6 '*' 7) $("$BUSYBOX" expr abc1 : '[a-z]*') $("$BUSYBOX" expr 3 - 5)"
	is 0 "$("$BUSYBOX" expr 4 - 4)"
	"$BUSYBOX" expr 4 - 4 >/dev/null
	is 1 $?
	"$BUSYBOX" expr 1 / 0 2>/dev/null
	is 2 $?
}

# The last is 2^31-1, a Mersenne prime.
arithmetic_factor() {
	is '1001: 7 11 13\n1024: 2 2 2 2 2 2 2 2 2 2\n2147483647: 2147483647' \
		"$("$BUSYBOX" factor 1001 1024 2147483647)"
}

arithmetic_seq() {
	is '10\n7\n4\n1' "$("$BUSYBOX" seq 10 -3 1)"
	is '08,09,10' "$("$BUSYBOX" seq -w -s , 8 10)"
}

arithmetic_bc() {
	is '1267650600228229401496703205376\n.33333\n1.4142135623' \
		"$(printf '2^100\nscale=5\n1/3\nscale=10\nsqrt(2)\n' | "$BUSYBOX" bc)"
}

arithmetic_dc() {
	is '120\nff' "$("$BUSYBOX" dc -e '1 2 3 4 5 * * * * p' -e '16 o 255 p' | "$BUSYBOX" tr A-F a-f)"
}

arithmetic_shell() {
	is '1099511627776 -3 -1 31 8 1 6' \
		"$("$BUSYBOX" sh -c 'echo $((1 << 40)) $((-7 / 2)) $((-7 % 3)) $((0x1f)) $((010)) $((3 > 2 && 2 > 1)) $((5 ^ 3))')"
}

arithmetic_awk() {
	is '5050 3.142857 2 1e+06' \
		"$("$BUSYBOX" awk 'BEGIN { while (i < 100) s += ++i; printf "%d %.6f %d %g\n", s, 22 / 7, 17 % 5, 1000 * 1000 }')"
}

arithmetic_printf() {
	is 'ff 10 00042 3.142 100%' "$("$BUSYBOX" printf '%x %o %05d %.3f %d%%\n' 255 8 42 3.14159 100)"
}
