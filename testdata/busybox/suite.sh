# 134 shell tests over the applets of BusyBox, in 14 groups: a load of some
# hundred short processes of one static binary that checks its own answers.
#
#     busybox sh suite.sh [-l] [GROUP|GROUP/NAME...]
#
# Without arguments all tests run, in the order of the list below. -l lists them.
# One line a test, "ok GROUP/NAME" or "FAIL GROUP/NAME: expected ... got ...";
# the last line counts. Exit code: 0 all passed, 1 one failed, 2 wrong usage,
# 129, 130 and 143 ended by SIGHUP, SIGINT and SIGTERM.
#
# BUSYBOX is the binary under test, /bin/busybox by default. Nothing else is
# executed: PATH leads nowhere, and each command that counts is started by its
# path, since BusyBox's shell runs many applets without an exec.
#
# Before each test comes a marker, a process of its own that does nothing, with
# the arguments  BUSYBOX true vmsim-test GROUP/NAME : in a recorded trace, all
# processes from one marker to the next belong to the test that it names.
#
# A group is a file GROUP.sh: a line "tests GROUP NAME..." and for each name a
# function GROUP_NAME. It runs in a subshell, in an empty directory of its own,
# with /dev/null as its input, must print nothing, and leaves no process behind.

groups='files text shell processes sysinfo archives find arithmetic workloads proc devices net hashes stress'
newline='
'

usage() {
	printf '%s\n' "suite.sh: $1" >&2
	exit 2
}

# tests GROUP NAME... makes the names known.
tests() {
	group=$1
	shift
	for name; do
		known="$known $group/$name"
	done
}

# oneline TEXT sets $line to the text with \n for each newline.
oneline() {
	line= rest=$1
	while :; do
		case $rest in
		*"$newline"*) line="$line${rest%%"$newline"*}\\n" rest=${rest#*"$newline"} ;;
		*) break ;;
		esac
	done
	line=$line$rest
}

# is EXPECTED GOT ends a test that got anything else. The expected text is in one
# line, with \n for each newline.
is() {
	oneline "$2"
	[ "$line" = "$1" ] && return
	printf '%s' "expected '$1' got '$line'"
	exit 1
}

# run GROUP/NAME runs one test, in a subshell that dies of its first failure.
run() {
	"$BUSYBOX" true vmsim-test "$1" || return
	why=$(cd "$tmp/$1" && "${1%/*}_${1#*/}" </dev/null)
	code=$?
	if [ "$code" = 0 ] && [ -z "$why" ]; then
		printf '%s\n' "ok $1"
		return
	fi
	oneline "$why"
	case $line in
	"expected '"*) ;;
	*) line="expected exit code 0 and no output got exit code $code, '$line'" ;;
	esac
	printf '%s\n' "FAIL $1: $line"
	return 1
}

# choose GROUP|GROUP/NAME adds the tests that it names to $chosen.
choose() {
	found=
	for test in $known; do
		case $test in
		"$1" | "$1"/*) found="$found $test" ;;
		esac
	done
	[ "$found" ] || usage "no such group or test: $1"
	chosen="$chosen$found"
}

unset CDPATH ENV POSIXLY_CORRECT BC_LINE_LENGTH GZIP LANG LANGUAGE http_proxy
export BUSYBOX="${BUSYBOX:-/bin/busybox}" PATH=/nonexistent LC_ALL=C TZ=UTC0 TERM=dumb COLUMNS=80
umask 022
case $BUSYBOX in
/*) ;;
*) usage "BUSYBOX is not an absolute path: $BUSYBOX" ;;
esac
[ -x "$BUSYBOX" ] || usage "cannot execute $BUSYBOX: Debian package busybox-static"

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
known=
for group in $groups; do
	. "$here/$group.sh"
done

list=
while getopts :l option; do
	case $option in
	l) list=1 ;;
	*) usage "unknown option: -$OPTARG" ;;
	esac
done
shift $((OPTIND - 1))
chosen=
for word; do
	choose "$word"
done
[ $# -gt 0 ] || chosen=$known
if [ "$list" ]; then
	printf '%s\n' $chosen
	exit 0
fi

tmp=$("$BUSYBOX" mktemp -d) || exit 2
case $tmp in
/*) ;;
*) tmp=$PWD/$tmp ;;
esac
trap 'cd /; "$BUSYBOX" rm -rf "$tmp"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
set --
for test in $chosen; do
	set -- "$@" "$tmp/$test"
done
"$BUSYBOX" mkdir -p "$@" || exit 2

passed=0 total=0
for test in $chosen; do
	total=$((total + 1))
	run "$test" && passed=$((passed + 1))
done
printf '%s\n' "$passed of $total passed"
[ "$passed" = "$total" ]
