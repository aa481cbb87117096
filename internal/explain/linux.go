package explain

import (
	"fmt"

	"vmsim/mem"
)

// fileWindow is the verdict of rule Linux or Aligned for window w: both map
// pages of the file, in place.
func (x *explainer) fileWindow(w mem.Range, areas []area, rule Rule) Verdict {
	var file []area
	for i := range areas {
		if areas[i].backed() {
			file = append(file, areas[i])
		}
	}
	if len(file) == 0 {
		return Verdict{Answer: No, Obstacles: []Obstacle{obstacle(Anonymous, 0, "no byte of the file")}}
	}
	var obs []Obstacle
	if !file[0].Covers(w) {
		obs = append(obs, x.notCovered(w, areas, file)...)
	}
	if len(file) > 1 {
		return Verdict{Answer: No, Obstacles: obs}
	}
	a := &file[0]
	obs = append(obs, x.areaObstacles(a, rule)...)
	if end := x.inFile(a); end < w.End && a.Covers(w) {
		n := uint64(w.End - max(end, w.Start))
		obs = append(obs, obstacle(BeyondEOF, n, "its last %s lie beyond the end of the file", size(n)))
	}
	v := judge(x.withBase(obs, rule))
	if rule == Linux && v.Answer != No && a.off+uint64(w.Start-a.Start) == 0 {
		// fs/exec.c:prepare_binprm; measured on 6.18 with ext4.
		v.Note = "exec reads the headers first: in a cold cache that leaves small folios in the way of this window"
	}
	return v
}

// judge turns obstacles into a verdict: some of them leave the answer open.
func judge(obs []Obstacle) Verdict {
	v := Verdict{Answer: Yes, Obstacles: obs}
	for _, o := range obs {
		if o.open {
			v.Answer = min(v.Answer, Depends)
		} else {
			v.Answer = No
		}
	}
	return v
}

// notCovered says why no area covers w. file are those of areas that have file
// bytes.
func (x *explainer) notCovered(w mem.Range, areas, file []area) []Obstacle {
	if len(areas) > 1 {
		return []Obstacle{obstacle(Shared, 0, "the window is shared by %s", names(areas))}
	}
	return cut(w, &file[0])
}

// cut says which part of w does not belong to a, the only area in it, and
// whether a is too short for any window.
func cut(w mem.Range, a *area) []Obstacle {
	if a.Len() < mem.HugeSize {
		n := mem.HugeSize - a.Len()
		return []Obstacle{obstacle(Short, n, "%s has %s, %s less than 2 MiB", a.name(), size(a.Len()), size(n))}
	}
	if a.Start > w.Start {
		n := uint64(a.Start - w.Start)
		return []Obstacle{obstacle(Outside, n, "%s begins %s into the window", a.name(), size(n))}
	}
	n := uint64(w.End - a.End)
	return []Obstacle{obstacle(Outside, n, "%s ends %s before the window does", a.name(), size(n))}
}

// areaObstacles are those that all windows of a share.
func (x *explainer) areaObstacles(a *area, rule Rule) []Obstacle {
	var obs []Obstacle
	if n := a.delta(); n != 0 {
		o := obstacle(Incongruent, n, "not congruent: address and offset differ by 0x%x modulo 2 MiB", n)
		if !x.Placement.sure() {
			o.Text += " (at a base of 2 MiB)"
		}
		obs = append(obs, o)
	}
	if a.prot&mem.ProtWrite != 0 {
		o := obstacle(Writable, 0, "writable")
		if rule == Linux {
			o.Text = "writable: the first write to it splits the huge entry"
			o.open = true
		}
		obs = append(obs, o)
	}
	if rule == Aligned && x.Image.Dynamic && !x.honoured() {
		obs = append(obs, x.alignObstacle())
	}
	return obs
}

// withBase adds to obstacles that leave a window of rule Linux possible that its
// base may not be so: else the base does not matter.
func (x *explainer) withBase(obs []Obstacle, rule Rule) []Obstacle {
	if rule != Linux || x.Placement.sure() || judge(obs).Answer == No {
		return obs
	}
	o := x.baseObstacle(x.Placement, x.bias%mem.HugeSize)
	o.open = true
	return append(obs, o)
}

// alignObstacle says that no p_align makes the base a multiple of 2 MiB. That of
// glibc 2.44 with glibc.elf.thp=1 does without where the first segment, the one
// by which it maps the rest, is eligible (sysdeps/unix/sysv/linux/
// dl-map-segment-align.c).
func (x *explainer) alignObstacle() Obstacle {
	o := obstacle(PAlign, 0, "p_align is 0x%x: the base is any page", x.Align)
	s := x.Image.Segments[0]
	pages := s.FileRange(0).PageAlign()
	multiple := (uint64(pages.Start)|uint64(s.Offset)&^(mem.PageSize-1))%mem.HugeSize == 0
	if x.Image.Interp == "" && multiple && pages.Len() >= mem.HugeSize && s.Prot&mem.ProtRead != 0 && s.Prot&mem.ProtWrite == 0 {
		o.Text = fmt.Sprintf("p_align is 0x%x: the base is any page, but for glibc 2.44 with glibc.elf.thp=1", x.Align)
		o.open = true
	}
	return o
}

// remapWindow is the verdict of Remap: w has to be text wholly.
func (x *explainer) remapWindow(w mem.Range, areas []area) Verdict {
	var text []area
	for i := range areas {
		if areas[i].prot&mem.ProtExec != 0 {
			text = append(text, areas[i])
		}
	}
	if len(text) == 0 {
		return Verdict{Answer: No, Obstacles: []Obstacle{obstacle(NotExec, 0, "not executable")}}
	}
	if text[0].Covers(w) {
		v := Verdict{Answer: Yes}
		if h := x.ByBase[Remap]; h.Windows.Min != h.Windows.Max {
			v.Note = h.String()
			if h.Windows.Min == 0 {
				v.Answer = Depends
				v.Obstacles = []Obstacle{obstacle(BaseAny, 0, "at most bases the text covers no whole window")}
			}
		}
		return v
	}
	if len(areas) > 1 {
		return Verdict{Answer: No, Obstacles: []Obstacle{obstacle(Shared, 0, "the window is shared by %s", names(areas))}}
	}
	return Verdict{Answer: No, Obstacles: cut(w, &text[0])}
}
