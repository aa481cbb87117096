package pagetable

import (
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

func TestTLB(t *testing.T) {
	var tlb TLB
	if _, ok := tlb.Lookup(0, 0, rw); ok {
		t.Error("an empty TLB answers the zero tag")
	}
	a, b := tlb.NewTag(), tlb.NewTag()
	if a == b || a == 0 || b == 0 {
		t.Fatalf("tags %d and %d", a, b)
	}
	tlb.Fill(a, 0x400123, 7, mem.ProtRead)
	for _, c := range []struct {
		name string
		tag  uint64
		addr mem.VirtAddr
		prot mem.Prot
		want bool
	}{
		{"the page", a, 0x400fff, mem.ProtRead, true},
		{"a write", a, 0x400000, mem.ProtWrite, false},
		{"a fetch", a, 0x400000, mem.ProtExec, false},
		{"another address space", b, 0x400000, mem.ProtRead, false},
		{"the next page", a, 0x401000, mem.ProtRead, false},
		{"a page in the same slot", a, 0x400000 + tlbSize*mem.PageSize, mem.ProtRead, false},
	} {
		if pfn, ok := tlb.Lookup(c.tag, c.addr, c.prot); ok != c.want || ok != (pfn == 7) {
			t.Errorf("%s: frame %d, %t; want %t", c.name, pfn, ok, c.want)
		}
	}

	tlb.Fill(a, 0x400000, 7, rw)
	tlb.Fill(b, 0x400000, 8, rw) // same slot: the newer one stays
	if _, ok := tlb.Lookup(a, 0x400000, mem.ProtRead); ok {
		t.Error("two address spaces in one slot")
	}
	if pfn, _ := tlb.Lookup(b, 0x400000, mem.ProtWrite); pfn != 8 {
		t.Errorf("frame %d, want 8", pfn)
	}
	tlb.Entries(0, func(mem.VirtAddr, mem.PFN, mem.Prot) { t.Error("an entry of the zero tag") })
}

// A hit must be the last Fill of that page and tag; a miss is always allowed,
// but not for what was filled last.
func TestTLBModel(t *testing.T) {
	type key struct {
		tag  uint64
		page mem.VirtAddr
	}
	type value struct {
		pfn  mem.PFN
		prot mem.Prot
	}
	rapid.Check(t, func(t *rapid.T) {
		var tlb TLB
		model := map[key]value{}
		tags := []uint64{tlb.NewTag(), tlb.NewTag()}
		draw := func(t *rapid.T) key {
			page := mem.VirtAddr(rapid.SampledFrom([]uint64{0, 1, 2, 511, 512, 513, 1024, 1 << 34}).Draw(t, "page"))
			return key{rapid.SampledFrom(tags).Draw(t, "tag"), page << mem.PageShift}
		}
		t.Repeat(map[string]func(*rapid.T){
			"fill": func(t *rapid.T) {
				k := draw(t)
				v := value{mem.PFN(rapid.Uint32Range(1, 9).Draw(t, "pfn")), rapid.SampledFrom(protections).Draw(t, "prot")}
				tlb.Fill(k.tag, k.page+5, v.pfn, v.prot)
				model[k] = v
				if pfn, ok := tlb.Lookup(k.tag, k.page, mem.ProtRead); ok != (v.prot != mem.ProtNone) || ok && pfn != v.pfn {
					t.Fatalf("just filled %v with %v: frame %d, %t", k, v, pfn, ok)
				}
			},
			"flush": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "space")
				for k := range model {
					if k.tag == tags[i] {
						delete(model, k)
					}
				}
				tags[i] = tlb.NewTag()
			},
			"": func(t *rapid.T) {
				for _, tag := range tags {
					tlb.Entries(tag, func(addr mem.VirtAddr, pfn mem.PFN, prot mem.Prot) {
						if v := model[key{tag, addr}]; v != (value{pfn, prot}) {
							t.Fatalf("tag %d page %v: frame %d %v, last filled with %v", tag, addr, pfn, prot, v)
						}
						for _, bit := range []mem.Prot{mem.ProtRead, mem.ProtWrite, mem.ProtExec} {
							if got, ok := tlb.Lookup(tag, addr, bit); ok != (prot&bit != 0) || ok && got != pfn {
								t.Fatalf("tag %d page %v %v: frame %d, %t", tag, addr, bit, got, ok)
							}
						}
					})
				}
			},
		})
	})
}
