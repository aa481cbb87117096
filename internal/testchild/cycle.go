package testchild

import (
	"os"
	"syscall"
	"testing"
)

// Cycle returns what fork, exec, a program's faults and exit take of the host: run makes
// n processes of BusyBox's true, which is static, one after the other. faults is how many
// pages each of them faults in. It skips the benchmark where BusyBox is missing.
func Cycle(tb testing.TB) (run func(n int), faults int) {
	tb.Helper()
	const path = "/bin/busybox"
	once := func() int {
		p, err := os.StartProcess(path, []string{"busybox", "true"}, &os.ProcAttr{})
		if err != nil {
			tb.Skipf("%v (Debian package busybox-static)", err)
		}
		state, err := p.Wait()
		if err != nil || !state.Success() {
			tb.Fatal(err, state)
		}
		return int(state.SysUsage().(*syscall.Rusage).Minflt)
	}
	once() // the file is read
	return func(n int) {
		for range n {
			once()
		}
	}, once()
}
