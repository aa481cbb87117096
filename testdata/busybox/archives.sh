# Packing and unpacking. Archives of another program's making are in base64.

tests archives tar tar_list tar_gz gzip bzip2 unxz cpio ar unzip

# packed makes the directory that is packed.
packed() {
	"$BUSYBOX" mkdir -p tree/below
	printf 'one\n' >tree/one
	printf 'two\n' >tree/below/two
}

archives_tar() {
	packed
	"$BUSYBOX" touch -d '2001-09-09 01:46:40' tree/one
	"$BUSYBOX" tar cf t.tar tree
	"$BUSYBOX" mkdir out
	"$BUSYBOX" tar xf t.tar -C out
	is 'one\ntwo\n1000000000' \
		"$("$BUSYBOX" cat out/tree/one out/tree/below/two && "$BUSYBOX" stat -c %Y out/tree/one)"
}

archives_tar_list() {
	packed
	is 'tree/one\ntree/below/\ntree/below/two' "$("$BUSYBOX" tar cf - tree/one tree/below | "$BUSYBOX" tar tf -)"
	is two "$("$BUSYBOX" tar cf - tree | "$BUSYBOX" tar xf - -O tree/below/two)"
}

archives_tar_gz() {
	packed
	"$BUSYBOX" tar cf - tree | "$BUSYBOX" gzip >t.tgz
	"$BUSYBOX" mkdir out
	"$BUSYBOX" tar xzf t.tgz -C out
	is 'one\ntwo' "$("$BUSYBOX" cat out/tree/one out/tree/below/two)"
}

archives_gzip() {
	is 'packed once, read for ever' \
		"$(printf '%s%s' H4sIAAAAAAACAytITM5OTVHIz0tO1VEo \
			Sk1MUUjLL1JILUst4gIANEB4YxsAAAA= |
			"$BUSYBOX" base64 -d | "$BUSYBOX" zcat)"
	"$BUSYBOX" seq 1000 >file
	"$BUSYBOX" gzip -c file >file.gz
	is '37 213' "$("$BUSYBOX" od -An -b -N2 file.gz | "$BUSYBOX" sed 's/ *0*\([0-9]*\) *\([0-9]*\)/\1 \2/')"
	"$BUSYBOX" gunzip -c file.gz | "$BUSYBOX" cmp - file
	is 0 $?
}

archives_bzip2() {
	is 'packed once, read for ever' \
		"$(printf '%s%s' QlpoOTFBWSZTWdSHZtQAAAtRgAAQQAQvCdEAIAAxAA \
			AGo09RkempY4DN5VCOymgXDdEx8XckU4UJDUh2bUA= |
			"$BUSYBOX" base64 -d | "$BUSYBOX" bzcat)"
	"$BUSYBOX" seq 1000 >file
	"$BUSYBOX" bzip2 -c file | "$BUSYBOX" bunzip2 -c | "$BUSYBOX" cmp - file
	is 0 $?
}

archives_unxz() {
	is 'packed once, read for ever' \
		"$(printf '%s%s' /Td6WFoAAAFpIt42AgAhARYAAAB0L+WjAQAacGFja2VkIG9uY2UsIH \
			JlYWQgZm9yIGV2ZXIKAAA0QHhjAAEvG6pE/7iQQpkNAQAAAAABWVo= |
			"$BUSYBOX" base64 -d | "$BUSYBOX" unxz)"
}

archives_cpio() {
	packed
	printf 'tree/one\ntree/below/two\n' | "$BUSYBOX" cpio -o -H newc >t.cpio 2>/dev/null
	is 070701 "$("$BUSYBOX" head -c 6 t.cpio)"
	is 'tree/one\ntree/below/two' "$("$BUSYBOX" cpio -t <t.cpio 2>/dev/null)"
	"$BUSYBOX" mkdir out
	(cd out && "$BUSYBOX" cpio -id <../t.cpio 2>/dev/null)
	is 'one\ntwo' "$("$BUSYBOX" cat out/tree/one out/tree/below/two)"
}

# Name, time, owner, group, mode and size of a member are text in columns.
archives_ar() {
	{
		printf '!<arch>\n'
		printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n%s\n' one.txt/ 0 0 0 100644 4 one
		printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n%s\n' two.txt/ 0 0 0 100644 6 'two 2'
	} >t.a
	is 'one.txt\ntwo.txt' "$("$BUSYBOX" ar t t.a)"
	is 'two 2' "$("$BUSYBOX" ar p t.a two.txt)"
}

archives_unzip() {
	printf '%s%s%s' UEsDBBQAAAAAAAAAISifqBf4BAAAAAQAAAAJAAAAYS9vbmUudHh0b25lClBLAwQUAAAACAAAACEoDiKZuwkAAAAYAAAABwAAAH \
		R3by50eHQrKc9XKMHEXABQSwECFAMUAAAAAAAAACEon6gX+AQAAAAEAAAACQAAAAAAAAAAAAAAgAEAAAAAYS9vbmUudHh0UEsB \
		AhQDFAAAAAgAAAAhKA4imbsJAAAAGAAAAAcAAAAAAAAAAAAAAIABKwAAAHR3by50eHRQSwUGAAAAAAIAAgBsAAAAWQAAAAAA |
		"$BUSYBOX" base64 -d >t.zip
	"$BUSYBOX" unzip -q t.zip
	is 'one\ntwo two two two two two' "$("$BUSYBOX" cat a/one.txt two.txt)"
}
