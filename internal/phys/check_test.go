package phys

import (
	"strings"
	"testing"

	"vmsim/mem"
)

// TestCheckFinds breaks each invariant in turn. The Memory holds: frames 1 to
// 10 allocated, 11 to 64 in the per-CPU list, 65 to 511 in the buddy (65 | 66 |
// 68 | 72 | 80 | 96 | 128 | 256), block 1 allocated as a huge page, block 2
// free, block 3 never used.
func TestCheckFinds(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(m *Memory)
		want string
	}{
		{"nothing", func(m *Memory) {}, ""},
		{"lost reference", func(m *Memory) { m.frames[5].refs = 0 }, "frame 5: allocated without a reference"},
		{"lost reference in a huge page", func(m *Memory) { m.frames[700].refs = 0 }, "frame 700: allocated without"},
		{"too many valid bytes", func(m *Memory) { m.frames[5].Valid = 4097 }, "frame 5: 4097 valid bytes"},
		{"allocated in a per-CPU list", func(m *Memory) { m.frames[20] = m.frames[5] }, "frame 20: in the list of CPU 0, but it is allocated"},
		{"reference in a per-CPU list", func(m *Memory) { m.frames[20].refs = 1 }, "frame 20: in a per-CPU list, but in use"},
		{"flags in a per-CPU list", func(m *Memory) { m.frames[20].Flags = Dirty }, "frame 20: in a per-CPU list, but in use"},
		{"twice in a per-CPU list", func(m *Memory) { m.cpu.pfns[3] = m.cpu.pfns[4] }, "twice in per-CPU lists"},
		{"lost from a per-CPU list", func(m *Memory) { m.cpu.n-- }, "53 frames in per-CPU lists, 54"},
		{"per-CPU list too long", func(m *Memory) { m.cpu.n = high + 1 }, "list of CPU 0: length 129"},
		{"beyond the arena in a per-CPU list", func(m *Memory) { m.cpu.pfns[0] = 1 << 30 }, "frame 1073741824: in the list of CPU 0"},
		{"reference in a head", func(m *Memory) { m.frames[128].refs = 1 }, "frame 128: head of a free block of order 7, but in use"},
		{"flags in a head", func(m *Memory) { m.frames[128].Flags = Huge }, "frame 128: head of a free block of order 7, but in use"},
		{"reference in a tail", func(m *Memory) { m.frames[200].refs = 1 }, "frame 200: in the free block of order 7 at 128"},
		{"allocated inside a block", func(m *Memory) { m.frames[300] = m.frames[5] }, "frame 300: in the free block of order 8 at 256"},
		{"head inside a block", func(m *Memory) { m.frames[304].state = headOf(4) }, "frame 304: in the free block of order 8 at 256"},
		{"in no block", func(m *Memory) { m.frames[5] = Frame{} }, "frame 5: free, but in no block"},
		{"not linked", func(m *Memory) { m.heads[7], m.nonempty = 0, m.nonempty&^(1<<7) }, "order 7: 0 blocks in the list, 1 in the frame table"},
		{"bit of the list", func(m *Memory) { m.nonempty &^= 1 << 7 }, "order 7: marked non-empty: false, first frame 128"},
		{"in the wrong list", func(m *Memory) { m.heads[7], m.heads[8] = m.heads[8], m.heads[7] }, "frame 256: in the list of order 7, but it is head of a free block of order 8"},
		{"cycle", func(m *Memory) { m.frames[128].Index = 128 }, "frame 128: previous in the list of order 7 is 0, not 128"},
		{"back link", func(m *Memory) { m.frames[128].File = 9 }, "frame 128: previous in the list of order 7 is 9, not 0"},
		{"link to nowhere", func(m *Memory) { m.frames[128].Index = 1 << 30 }, "frame 1073741824: in the list of order 7"},
		{"wrong order", func(m *Memory) { m.frames[1024].state = headOf(8) }, "frame 1024: in the list of order 9"},
		{"not merged", func(m *Memory) {
			m.unlink(256, 8)
			m.push(256, 7)
			m.push(384, 7)
		}, "frame 256: free and not merged with its buddy 384"},
		{"misaligned", func(m *Memory) {
			for p := mem.PFN(1); p < 11; p++ {
				m.frames[p] = Frame{}
			}
			m.push(1, 1)
		}, "frame 1: not a multiple of 2"},
		{"count", func(m *Memory) { m.nBuddy++ }, "1472 frames counted in the buddy, 1471 in"},
		{"unknown state", func(m *Memory) { m.frames[5].state = 0x2f }, "frame 5: unexpected state"},
		{"second reserved frame", func(m *Memory) { m.frames[5].state = stateReserved }, "frame 5: unexpected state: reserved"},
		{"frame 0 in use", func(m *Memory) { m.frames[0].refs = 1 }, "frame 0: "},
		{"high-water mark", func(m *Memory) { m.top++ }, "high-water mark 1537"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := New(8 * mib)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for range 10 {
				m.Alloc()
			}
			m.AllocHuge()
			h, _ := m.AllocHuge()
			m.PutBlock(h)

			tc.do(m)
			switch err := m.Check(); {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Check: %v\nwant %s", err, tc.want)
			}
		})
	}
}
