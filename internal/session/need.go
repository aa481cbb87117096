package session

import (
	"errors"
	"fmt"

	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// neededMemory returns so many bytes of memory that the verify protocol on t ends
// without a kill, whatever must be evicted on the way:
//
//   - a frame for each page that the second process has written, and for each page
//     with file bytes that the third may write and so has of its own; what can be
//     evicted takes turns in 4 MiB;
//   - page-table nodes for both, of which a machine has one for each four frames.
func neededMemory(t *verify.Truth) uint64 {
	var frames, leaves, middles, uppers uint64 // nodes of one process, by level
	last := ^mem.VirtAddr(0)
	for page := range t.TouchPages() {
		for level, nodes := range []*uint64{&leaves, &middles, &uppers} {
			if shift := 21 + 9*level; last == ^mem.VirtAddr(0) || last>>shift != page>>shift {
				*nodes++
			}
		}
		last = page
		if prot, _ := t.Prot(page); prot&mem.ProtWrite == 0 {
			continue
		}
		frames++
		if t.HasFileBytes(page) {
			frames++
		}
	}
	const stacks = 2 * 4 // a path of nodes for the stack of each, and its root
	nodes := 2*(leaves+middles+uppers) + stacks
	return mem.PageSize*max(frames, 4*nodes) + 4<<20
}

// enough adds to the error of a kill for want of memory how much would do.
func enough(err error, t *verify.Truth) error {
	var oom *vm.OOMKill
	if !errors.As(err, &oom) {
		return err
	}
	const mib = 1 << 20
	return fmt.Errorf("%w; --memory %dM would do", err, (neededMemory(t)+mib-1)/mib)
}
