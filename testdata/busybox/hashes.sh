# Sums of known texts: "abc" of FIPS 180 and 202 and RFC 1321, "123456789" of CRC-32.

tests hashes md5 sha1 sha256 sha512 sha3 crc32 check

hashes_md5() {
	is '900150983cd24fb0d6963f7d28e17f72  -' "$(printf abc | "$BUSYBOX" md5sum)"
}

hashes_sha1() {
	is 'a9993e364706816aba3e25717850c26c9cd0d89d  -' "$(printf abc | "$BUSYBOX" sha1sum)"
}

hashes_sha256() {
	is 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -' "$(printf abc | "$BUSYBOX" sha256sum)"
}

hashes_sha512() {
	want=ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
	want=${want}2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f
	is "$want  -" "$(printf abc | "$BUSYBOX" sha512sum)"
}

hashes_sha3() {
	is '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532  -' "$(printf abc | "$BUSYBOX" sha3sum -a 256)"
}

hashes_crc32() {
	printf 123456789 >file
	is cbf43926 "$("$BUSYBOX" crc32 file | "$BUSYBOX" cut -c 1-8)"
}

hashes_check() {
	printf 'as it was\n' >file
	"$BUSYBOX" sha256sum file >sums
	is 'file: OK' "$("$BUSYBOX" sha256sum -c sums)"
	printf 'as it is\n' >file
	"$BUSYBOX" sha256sum -c sums >said 2>/dev/null
	is 1 $?
	is 'file: FAILED' "$("$BUSYBOX" cat said)"
}
