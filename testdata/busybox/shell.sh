# BusyBox's own shell, started anew for each script.

tests shell args loop function case expansion heredoc pipeline subshell trap errexit getopts read redirect background

shell_args() {
	is '3:a b::c' "$("$BUSYBOX" sh -c 'echo "$#:$1:$2:$3"' name 'a b' '' c)"
}

shell_loop() {
	is '1 2 3 5' "$("$BUSYBOX" sh -c 'for i in 1 2 3 4 5 6; do
		[ $i = 4 ] && continue
		[ $i = 6 ] && break
		s="$s $i"
	done
	echo ${s# }')"
}

shell_function() {
	is '3628800' \
		"$("$BUSYBOX" sh -c 'f() { if [ $1 = 0 ]; then echo 1; else echo $(($1 * $(f $(($1 - 1))))); fi; }; f 10')"
}

shell_case() {
	is 'digit other vowel' "$("$BUSYBOX" sh -c 'for x in 7 xy e; do
		case $x in
		[0-9]) echo digit ;;
		a | e | i | o | u) echo vowel ;;
		*) echo other ;;
		esac
	done' | "$BUSYBOX" paste -s -d ' ')"
}

shell_expansion() {
	is 'usr/lib libc.so.6 libc default 13' "$("$BUSYBOX" sh -c 'p=usr/lib/libc.so.6
	b=${p##*/}
	echo "${p%/*} $b ${b%%.*} ${none:-default} $((${#p} - 4))"')"
}

shell_heredoc() {
	is 'x is 42\n$x stays' "$("$BUSYBOX" sh -c 'x=42
"$BUSYBOX" cat <<END
x is $x
END
"$BUSYBOX" cat <<"END"
$x stays
END
')"
}

shell_pipeline() {
	"$BUSYBOX" sh -c '"$BUSYBOX" true | "$BUSYBOX" false'
	is 1 $?
	"$BUSYBOX" sh -c '"$BUSYBOX" false | "$BUSYBOX" true'
	is 0 $?
	"$BUSYBOX" sh -c 'set -o pipefail; "$BUSYBOX" false | "$BUSYBOX" true'
	is 1 $?
}

shell_subshell() {
	is 'in out' "$("$BUSYBOX" sh -c 'x=out; (x=in; echo $x); echo $x' | "$BUSYBOX" paste -s -d ' ')"
}

shell_trap() {
	is 'caught\nbye' \
		"$("$BUSYBOX" sh -c 'trap "echo caught" USR1; trap "echo bye" EXIT; "$BUSYBOX" kill -USR1 $$; exit 0')"
}

shell_errexit() {
	is 'first' "$("$BUSYBOX" sh -ec 'echo first; "$BUSYBOX" false; echo second')"
	"$BUSYBOX" sh -ec '"$BUSYBOX" false || exit 7'
	is 7 $?
}

shell_getopts() {
	is 'a=1 v=1 rest=x' "$("$BUSYBOX" sh -c 'while getopts a:v o; do
		case $o in
		a) a=$OPTARG ;;
		v) v=1 ;;
		esac
	done
	shift $((OPTIND - 1))
	echo "a=$a v=$v rest=$*"' name -v -a 1 x)"
}

shell_read() {
	is 'root:0' "$(printf 'user:x:1000\nroot:x:0\n' | "$BUSYBOX" sh -c 'while IFS=: read -r name x uid; do
		[ $uid = 0 ] && echo $name:$uid
	done')"
}

shell_redirect() {
	"$BUSYBOX" sh -c '{ echo out; echo err >&2; } >one 2>two
	echo more >>one
	exec 4<one
	read -r line <&4
	echo $line >three'
	is 'out\nmore\nerr\nout' "$("$BUSYBOX" cat one two three)"
}

shell_background() {
	is '0 3' "$("$BUSYBOX" sh -c '"$BUSYBOX" true & a=$!
	"$BUSYBOX" sh -c "exit 3" & b=$!
	wait $a; echo $?
	wait $b; echo $?' | "$BUSYBOX" paste -s -d ' ')"
}
