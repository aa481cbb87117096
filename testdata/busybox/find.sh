# find, over a small tree, and what it starts.

tests find name type size perm newer exec prune print0

# searched makes what is searched, below the directory t.
searched() {
	"$BUSYBOX" mkdir -p t/sub/deep t/empty
	printf 'ab' >t/a.txt
	printf '%01000d' 0 >t/sub/b.txt
	printf 'c' >t/sub/deep/c.sh
	"$BUSYBOX" ln -s a.txt t/link
}

find_name() {
	searched
	is 't/a.txt\nt/sub/b.txt' "$("$BUSYBOX" find t -name '*.txt' | "$BUSYBOX" sort)"
	is t/sub/deep/c.sh "$("$BUSYBOX" find t -path '*/deep/*')"
}

find_type() {
	searched
	is 't\nt/empty\nt/sub\nt/sub/deep' "$("$BUSYBOX" find t -type d | "$BUSYBOX" sort)"
	is t/link "$("$BUSYBOX" find t -type l)"
}

find_size() {
	searched
	is t/sub/b.txt "$("$BUSYBOX" find t -type f -size +999c)"
	is t/sub/deep/c.sh "$("$BUSYBOX" find t -type f -size -2c)"
}

find_perm() {
	searched
	"$BUSYBOX" chmod 640 t/a.txt
	"$BUSYBOX" chmod 755 t/sub/deep/c.sh
	is t/a.txt "$("$BUSYBOX" find t -type f -perm 640)"
	is t/sub/deep/c.sh "$("$BUSYBOX" find t -type f -perm -100)"
}

find_newer() {
	searched
	"$BUSYBOX" touch -d '2001-01-01 00:00:00' t/a.txt t/sub/deep/c.sh
	"$BUSYBOX" touch -d '2002-01-01 00:00:00' mark
	is t/sub/b.txt "$("$BUSYBOX" find t -type f -newer mark)"
}

find_exec() {
	searched
	is 'ab' "$("$BUSYBOX" find t -name a.txt -exec "$BUSYBOX" cat '{}' ';')"
	is '1003' "$("$BUSYBOX" find t -type f -exec "$BUSYBOX" cat '{}' + | "$BUSYBOX" wc -c)"
}

find_prune() {
	searched
	is t/a.txt "$("$BUSYBOX" find t -name sub -prune -o -type f -print)"
	is t/a.txt "$("$BUSYBOX" find t -maxdepth 1 -type f)"
}

find_print0() {
	"$BUSYBOX" mkdir t
	printf 'one\n' >'t/a b'
	printf 'two\n' >"t/c${newline}d"
	is 'one\ntwo' "$("$BUSYBOX" find t -type f -print0 | "$BUSYBOX" sort -z | "$BUSYBOX" xargs -0 "$BUSYBOX" cat)"
}
