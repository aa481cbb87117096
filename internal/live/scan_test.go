package live

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pagemapScan is the ioctl PAGEMAP_SCAN, _IOWR('f', 16, struct pm_scan_arg)
// (include/uapi/linux/fs.h).
func pagemapScan(f *os.File, arg *scanArg) (int, error) {
	const request = 3<<30 | uintptr(unsafe.Sizeof(scanArg{}))<<16 | 'f'<<8 | 16
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// scanArg is struct pm_scan_arg.
type scanArg struct {
	size, flags, start, end, walkEnd     uint64
	vec                                  *[3]uint64
	vecLen, maxPages                     uint64
	inverted, mask, anyOfMask, returning uint64
}
