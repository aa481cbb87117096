# Small jobs of several processes each.

tests workloads wordcount sort1000 primes inventory patch logs mirror life

workloads_wordcount() {
	printf 'the cat and the dog\nand the bird\n' >text
	is ' 3 the\n 2 and' "$("$BUSYBOX" tr -s ' ' '\n' <text | "$BUSYBOX" sort | "$BUSYBOX" uniq -c |
		"$BUSYBOX" sort -rn | "$BUSYBOX" head -n 2 | "$BUSYBOX" sed 's/^ */ /')"
}

# The sum is that of the lines 1 to 1000.
workloads_sort1000() {
	is '53d025127ae99ab79e8502aae2d9bea6  -' \
		"$("$BUSYBOX" seq 1000 | "$BUSYBOX" sort -r | "$BUSYBOX" sort -n | "$BUSYBOX" md5sum)"
}

# There are 168 primes below 1000, the last is 997.
workloads_primes() {
	is '168 997' "$("$BUSYBOX" awk 'BEGIN {
		for (i = 2; i < 1000; i++)
			if (!(i in not)) {
				n++
				last = i
				for (j = i * i; j < 1000; j += i) not[j]
			}
		print n, last
	}')"
}

workloads_inventory() {
	printf 'bolt 10\nnut 4\nscrew 7\n' >stock
	printf 'nut 5\nbolt 2\nbolt 1\n' >orders
	"$BUSYBOX" awk 'NR == FNR { have[$1] = $2; next } { have[$1] -= $2 } END { for (i in have) print i, have[i] }' \
		stock orders | "$BUSYBOX" sort >left
	is 'bolt 7\nnut -1\nscrew 7' "$("$BUSYBOX" cat left)"
	is nut "$("$BUSYBOX" grep -e - left | "$BUSYBOX" cut -d ' ' -f 1)"
}

workloads_patch() {
	"$BUSYBOX" seq 20 >old
	"$BUSYBOX" sed -e '3s/.*/three/' -e '15d' -e '$a end' old >new
	"$BUSYBOX" cp old file
	"$BUSYBOX" diff -u old new >change
	is 1 $?
	"$BUSYBOX" patch file change >/dev/null
	"$BUSYBOX" cmp file new
	is 0 $?
	"$BUSYBOX" patch -R file change >/dev/null
	"$BUSYBOX" cmp file old
	is 0 $?
}

workloads_logs() {
	for minute in 1 2 3 4; do
		printf '10:0%d GET /index 200\n10:0%d GET /missing 404\n' $minute $minute
	done >log
	printf '10:05 GET /gone 404\n' >>log
	is ' 4 /missing\n 1 /gone' "$("$BUSYBOX" grep ' 404$' log | "$BUSYBOX" cut -d ' ' -f 3 | "$BUSYBOX" sort |
		"$BUSYBOX" uniq -c | "$BUSYBOX" sort -rn | "$BUSYBOX" sed 's/^ */ /')"
}

workloads_mirror() {
	for dir in a b a/c; do
		"$BUSYBOX" mkdir -p from/$dir
		"$BUSYBOX" seq 50 >from/$dir/numbers
	done
	"$BUSYBOX" mkdir to
	"$BUSYBOX" tar cf - -C from . | "$BUSYBOX" tar xf - -C to
	"$BUSYBOX" diff -r from to
	is 0 $?
	printf more >>to/a/c/numbers
	"$BUSYBOX" diff -rq from to >/dev/null
	is 1 $?
}

# The glider moves by one cell down and one to the right in four generations.
workloads_life() {
	printf '.#....\n..#...\n###...\n......\n......\n......\n' >world
	for generation in 1 2 3 4; do
		"$BUSYBOX" awk '{ row[NR] = "." $0 "." } END {
			empty = sprintf("%" length(row[1]) "s", "")
			row[0] = row[NR + 1] = empty
			for (y = 1; y <= NR; y++) {
				line = ""
				for (x = 2; x < length(row[y]); x++) {
					near = substr(row[y - 1], x - 1, 3) substr(row[y], x - 1, 1) substr(row[y], x + 1, 1) substr(row[y + 1], x - 1, 3)
					n = gsub("#", "", near)
					line = line (n == 3 || n == 2 && substr(row[y], x, 1) == "#" ? "#" : ".")
				}
				print line
			}
		}' world >next
		"$BUSYBOX" mv next world
	done
	is '......\n..#...\n...#..\n.###..\n......\n......' "$("$BUSYBOX" cat world)"
}
