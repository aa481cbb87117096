package mem

import (
	"syscall"
	"time"
)

// youth is how long a write may be under way, and how long stores through a
// mapping may go on before the kernel, having written the page back, marks the
// file as changed again (vm.dirty_expire_centisecs: 30 s).
const youth = time.Minute

// Young reports whether the file was written so shortly before it was opened
// that a write may then have been under way: that changes bytes, and Changed does
// not see it.
func (o *OSFile) Young() bool {
	var st syscall.Stat_t
	if err := o.fstat(&st); err != nil {
		return true
	}
	return isYoung(time.Unix(st.Ctim.Unix()), o.opened)
}

// isYoung reports whether a file that was changed at one time is young at
// another; also if that is before it, by another machine's clock.
func isYoung(changed, opened time.Time) bool { return opened.Sub(changed) < youth }
