package soundness

import (
	"bytes"
	"errors"
	"testing"

	"vmsim/trace"
)

// FuzzCheck checks whatever decodes: it must not panic, and keep its maps sound.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(trace.Magic + "\n" + completeHeader + prelude + "2 touch r 0x400000\n2 mremap 0x404000 0x1000 0x3000 maymove = 0x10000\n" +
		"2 fork = 3\n3 present fork\n2 vfork = 4\n4 madvise 0x404000 0x1000 remove = 0\n2 present exit own:0x1000-0x2000\n2 exit signal=9\n"))
	f.Add([]byte(trace.Magic + "\n" + faultsHeader + prelude + "2 mlockall flags=7 = 0\n2 brk 0xffffffffffffffff = 0xffffffffffffffff\n2 brk 0 = 0\n" +
		"2 mmap 0 0xffffffffffffffff rwx shared,populate a+0xffffffffffffffff = 0xfffffffffffff000\n2 shmdt 0xffffffffffffffff = 0\n2 exec a\n2 munmap 0 0\n"))
	f.Add([]byte(trace.Magic + "\n" + completeHeader + prelude + "2 mmap 0 0x3000 rw- shared,populate a+0x123 = 0x10000\n" +
		"2 mmap 0 0x3000 rw- shared,populate a+0x456 = 0x20000\n2 madvise 0x10000 0x1000 remove = 0\n2 shmdt 0x10123 = 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := trace.NewDecoder("fuzz", bytes.NewReader(data))
		h, _ := d.Header()
		c := New(h, Options{})
		for range 200 {
			op, err := d.Next()
			if err != nil {
				break
			}
			c.Op(&op)
			for _, p := range c.processes {
				if err := errors.Join(p.space.areas.check(), p.space.pages.check()); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.End(true)
	})
}
