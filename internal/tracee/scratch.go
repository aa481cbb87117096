package tracee

import (
	"slices"

	"vmsim/mem"
)

// scratchRange is all that lies at scratch at most.
var scratchRange = mem.Range{Start: scratch, End: scratch + maxIovecs*iovecSize}

// own returns runs without what an injection left.
func (sp *space) own(runs []Run) []Run {
	if sp == nil || !sp.scratched {
		return runs
	}
	return slices.DeleteFunc(runs, func(r Run) bool { return scratchRange.Contains(r.Start) })
}

// ownAreas is own of areas.
func (sp *space) ownAreas(areas []Area) []Area {
	if sp == nil || !sp.scratched {
		return areas
	}
	return slices.DeleteFunc(areas, func(a Area) bool { return scratchRange.Covers(a.Range) })
}
