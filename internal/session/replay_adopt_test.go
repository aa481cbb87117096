package session

import (
	"testing"

	"vmsim/vm"
)

// TestAdopt: what a fork's child is said to have mapped, and its parent had not
// yet, it gets; what it has stays.
func TestAdopt(t *testing.T) {
	res, err := replayRecorded(t, options(t), ReplayOptions{}, kevlarExec+`
2 mmap 0x10000000 0x2000 rw- private,fixed anon = 0x10000000
2 touch w 0x10000000 err=6
2 fork = 3
3 area fork 0x400000-0x51c000 r-x private ../elf/kevlar-layout+0x0
3 area fork 0x0ffff000-0x10004000 rw- private anon
3 area fork 0x20000000-0x20001000 r-- private ../elf/kevlar-layout+0x1000
3 area fork 0x30000000-0x30001000 rw- shared anon
3 area fork 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
3 touch r 0x10000000 err=4
3 touch w 0x0ffff000 err=6
3 touch w 0x10003000 err=6
3 touch r 0x20000000 err=4
3 touch r 0x30000000 err=4
2 touch r 0x10003000 err=4
`, func(*Rig, int) {})
	if err != nil {
		t.Fatal(err)
	}
	// Two are refused: shared memory, of which the object is not known, and the
	// parent's touch of what the child alone has.
	if res.Refused != 2 || res.Mismatched != 0 || res.Wrong != 0 || res.Crashes != 0 {
		t.Errorf("%d refused, %+v", res.Refused, res.Result)
	}
	if want := (vm.Faults{Minor: 3, Major: 1}); res.Stats.Faults != want {
		t.Errorf("faults %+v, want %+v", res.Stats.Faults, want)
	}
}
