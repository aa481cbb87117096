# What applets do to files, directories and links.

tests files cat cp mv rm ln symlink mkdir rmdir touch chmod dd truncate mkfifo cmp ls realpath

files_cat() {
	printf 'one\n' >one
	printf 'three' >three
	is 'one\ntwo\nthree' "$(printf 'two\n' | "$BUSYBOX" cat one - three)"
}

files_cp() {
	"$BUSYBOX" mkdir -p from/below
	printf 'top\n' >from/a
	printf 'deep\n' >from/below/b
	"$BUSYBOX" cp -r from to
	is 'top\ndeep' "$("$BUSYBOX" cat to/a to/below/b)"
	printf 'changed\n' >from/a
	is top "$("$BUSYBOX" cat to/a)"
}

files_mv() {
	printf 'moved\n' >from
	"$BUSYBOX" mkdir dir
	"$BUSYBOX" mv from dir/to
	is moved "$("$BUSYBOX" cat dir/to)"
	[ ! -e from ]
	is 0 $?
}

files_rm() {
	"$BUSYBOX" mkdir -p tree/below
	printf x >tree/below/file
	"$BUSYBOX" rm tree 2>/dev/null
	is 1 $?
	"$BUSYBOX" rm -r tree
	is 0 $?
	[ -e tree ]
	is 1 $?
}

files_ln() {
	printf 'before\n' >one
	"$BUSYBOX" ln one two
	is '2 2' "$("$BUSYBOX" stat -c %h one) $("$BUSYBOX" stat -c %h two)"
	printf 'after\n' >two
	is after "$("$BUSYBOX" cat one)"
}

files_symlink() {
	printf 'target\n' >file
	"$BUSYBOX" ln -s file link
	is 'file\ntarget' "$("$BUSYBOX" readlink link && "$BUSYBOX" cat link)"
	"$BUSYBOX" rm file
	"$BUSYBOX" cat link 2>/dev/null
	is 1 $?
}

files_mkdir() {
	"$BUSYBOX" mkdir -p -m 750 a/b/c
	is 'directory 750' "$("$BUSYBOX" stat -c '%F %a' a/b/c)"
	"$BUSYBOX" mkdir a 2>/dev/null
	is 1 $?
}

files_rmdir() {
	"$BUSYBOX" mkdir -p a/b full
	printf x >full/file
	"$BUSYBOX" rmdir full 2>/dev/null
	is 1 $?
	"$BUSYBOX" rmdir -p a/b
	is 0 $?
	[ -e a ]
	is 1 $?
}

files_touch() {
	"$BUSYBOX" touch -d '2001-09-09 01:46:40' old
	is 1000000000 "$("$BUSYBOX" stat -c %Y old)"
	"$BUSYBOX" touch -r old same
	is 1000000000 "$("$BUSYBOX" stat -c %Y same)"
	"$BUSYBOX" touch -c none
	[ -e none ]
	is 1 $?
}

files_chmod() {
	printf x >file
	"$BUSYBOX" chmod 644 file
	"$BUSYBOX" chmod u+x,g-r,o=w file
	is '702 -rwx----w-' "$("$BUSYBOX" stat -c '%a %A' file)"
}

files_dd() {
	printf '0123456789abcdef' >file
	is 89ab "$("$BUSYBOX" dd if=file bs=4 skip=2 count=1 2>/dev/null)"
	printf XY | "$BUSYBOX" dd of=file bs=1 seek=3 conv=notrunc 2>/dev/null
	is 012XY56789abcdef "$("$BUSYBOX" cat file)"
}

files_truncate() {
	printf 'keep this away' >file
	"$BUSYBOX" truncate -s 4 file
	"$BUSYBOX" truncate -s 6 file
	is 'k e e p \0 \0' "$("$BUSYBOX" od -An -c file | "$BUSYBOX" tr -s ' ' | "$BUSYBOX" sed 's/^ //')"
}

files_mkfifo() {
	"$BUSYBOX" mkfifo pipe
	is fifo "$("$BUSYBOX" stat -c %F pipe)"
	printf 'through\n' >pipe &
	is through "$("$BUSYBOX" cat pipe)"
	wait
}

files_cmp() {
	printf 'abcdef' >one
	printf 'abCdeF' >two
	"$BUSYBOX" cmp -s one one
	is 0 $?
	"$BUSYBOX" cmp -s one two
	is 1 $?
	is ' 3 143 103\n 6 146 106' "$("$BUSYBOX" cmp -l one two | "$BUSYBOX" sed 's/^ */ /')"
}

files_ls() {
	"$BUSYBOX" mkdir b
	printf x >c
	printf x >.hidden
	"$BUSYBOX" ln -s c a
	is 'a\nb\nc' "$("$BUSYBOX" ls -1)"
	is '.hidden\na@\nb/\nc' "$("$BUSYBOX" ls -1AF)"
}

files_realpath() {
	"$BUSYBOX" mkdir -p a/b
	"$BUSYBOX" ln -s a/b link
	is "$(pwd -P)/a/b" "$("$BUSYBOX" realpath ./a/../link/.)"
}
