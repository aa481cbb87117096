# Filters: text in, text out.

tests text sort sort_numeric sort_keys uniq cut tr head tail wc sed sed_hold grep egrep awk awk_fields \
	tac rev nl fold paste expand diff

text_sort() {
	is 'Zoe\napple\nfig\npear' "$(printf 'pear\nZoe\napple\nfig\n' | "$BUSYBOX" sort)"
	is 'b\na' "$(printf 'a\nb\na\n' | "$BUSYBOX" sort -ru)"
}

text_sort_numeric() {
	is '-3\n0\n9\n10\n100' "$(printf '10\n9\n-3\n100\n0\n' | "$BUSYBOX" sort -n)"
}

text_sort_keys() {
	printf 'ann:30:x\nbob:4:y\ncy:30:a\n' >people
	is 'bob:4:y\ncy:30:a\nann:30:x' "$("$BUSYBOX" sort -t: -k2,2n -k3 people)"
}

text_uniq() {
	printf 'a\na\nb\nc\nc\nc\n' >file
	is ' 2 a\n 1 b\n 3 c' "$("$BUSYBOX" uniq -c file | "$BUSYBOX" sed 's/^ */ /')"
	is 'a\nc' "$("$BUSYBOX" uniq -d file)"
	is b "$("$BUSYBOX" uniq -u file)"
}

text_cut() {
	is 'two:four' "$(printf 'one:two:three:four\n' | "$BUSYBOX" cut -d: -f2,4)"
	is bcd "$(printf 'abcdef\n' | "$BUSYBOX" cut -c2-4)"
}

text_tr() {
	is 'HELLO, WORLD' "$(printf 'hello, world\n' | "$BUSYBOX" tr a-z A-Z)"
	is 'a b' "$(printf 'a    b\n' | "$BUSYBOX" tr -s ' ')"
	is 'hll' "$(printf 'hello\n' | "$BUSYBOX" tr -d aeiou)"
}

text_head() {
	printf '1\n2\n3\n4\n' >file
	is '1\n2' "$("$BUSYBOX" head -n 2 file)"
	is '1\n2' "$("$BUSYBOX" head -c 3 file)"
}

text_tail() {
	printf '1\n2\n3\n4\n' >file
	is '3\n4' "$("$BUSYBOX" tail -n 2 file)"
	is '2\n3\n4' "$("$BUSYBOX" tail -n +2 file)"
}

text_wc() {
	printf 'one two\nthree  four five\n' >file
	is '2 5 25' "$("$BUSYBOX" wc -l <file) $("$BUSYBOX" wc -w <file) $("$BUSYBOX" wc -c <file)"
}

text_sed() {
	printf 'cat\ndog\ncatcat\n' >file
	is 'cow\ndog\ncowcow' "$("$BUSYBOX" sed 's/cat/cow/g' file)"
	is 'god' "$("$BUSYBOX" sed -n '2s/\(.\)\(.\)\(.\)/\3\2\1/p' file)"
}

text_sed_hold() {
	is '3\n2\n1' "$(printf '1\n2\n3\n' | "$BUSYBOX" sed -n '1!G;h;$p')"
}

text_grep() {
	printf 'red apple\ngreen pear\nred plum\n' >file
	is '1:red apple\n3:red plum' "$("$BUSYBOX" grep -n '^red' file)"
	is 1 "$("$BUSYBOX" grep -vc red file)"
	"$BUSYBOX" grep -q blue file
	is 1 $?
}

text_egrep() {
	is '2026-01-31' "$(printf 'on 2026-01-31, not 26-1-3\n' | "$BUSYBOX" egrep -o '[0-9]{4}(-[0-9]{2}){2}')"
}

text_awk() {
	is '10 2.5' "$(printf '1\n2\n3\n4\n' | "$BUSYBOX" awk '{ s += $1 } END { print s, s / NR }')"
}

text_awk_fields() {
	is 'b 3\na 7' "$(printf 'a 3\nb 3\na 4\n' |
		"$BUSYBOX" awk '{ n[$1] += $2 } END { print "b", n["b"]; print "a", n["a"] }')"
}

text_tac() {
	is 'c\nb\na' "$(printf 'a\nb\nc\n' | "$BUSYBOX" tac)"
}

text_rev() {
	is 'cba\n321' "$(printf 'abc\n123\n' | "$BUSYBOX" rev)"
}

text_nl() {
	is ' 1:a\n 2:b' "$(printf 'a\nb\n' | "$BUSYBOX" nl -w 2 -s :)"
}

text_fold() {
	is 'abcd\nefgh\nij' "$(printf 'abcdefghij\n' | "$BUSYBOX" fold -w 4)"
}

text_paste() {
	printf '1\n2\n' >one
	printf 'a\nb\n' >two
	is '1,a\n2,b' "$("$BUSYBOX" paste -d , one two)"
	is '1+2' "$("$BUSYBOX" paste -s -d + one)"
}

text_expand() {
	is 'a   bc  d' "$(printf 'a\tbc\td\n' | "$BUSYBOX" expand -t 4)"
	is 'a|bc|d' "$(printf 'a   bc  d\n' | "$BUSYBOX" unexpand -a -t 4 | "$BUSYBOX" tr '\t' '|')"
}

text_diff() {
	printf 'a\nb\nc\n' >one
	printf 'a\nB\nc\nd\n' >two
	is '@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d' "$("$BUSYBOX" diff -u one two | "$BUSYBOX" tail -n +3)"
	"$BUSYBOX" diff one one
	is 0 $?
}
