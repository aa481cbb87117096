package trace

import (
	"fmt"
	"strconv"
	"strings"
)

// MapFlags are the flags of mmap. Zero is MAP_PRIVATE.
type MapFlags uint16

const (
	MapShared    MapFlags = 1 << iota // MAP_SHARED
	MapFixed                          // MAP_FIXED
	MapNoReplace                      // MAP_FIXED_NOREPLACE
	MapPopulate                       // MAP_POPULATE
	MapLocked                         // MAP_LOCKED
	MapNoReserve                      // MAP_NORESERVE
	MapStack                          // MAP_STACK
	MapGrowsDown                      // MAP_GROWSDOWN
	MapHugeTLB                        // MAP_HUGETLB
	Map32Bit                          // MAP_32BIT
	MapNonBlock                       // MAP_NONBLOCK: populate nothing
	MapSync                           // MAP_SYNC

	mapFlags = 1<<iota - 1
)

// flagNames are the words behind private or shared, in canonical order.
var flagNames = []struct {
	flag MapFlags
	name string
}{{MapFixed, "fixed"}, {MapNoReplace, "noreplace"}, {MapPopulate, "populate"}, {MapLocked, "locked"},
	{MapNoReserve, "noreserve"}, {MapStack, "stack"}, {MapGrowsDown, "growsdown"}, {MapHugeTLB, "hugetlb"},
	{Map32Bit, "32bit"}, {MapNonBlock, "nonblock"}, {MapSync, "sync"}}

// String returns the word of the text form: private,fixed.
func (f MapFlags) String() string {
	s := "private"
	if f&MapShared != 0 {
		s = "shared"
	}
	for _, n := range flagNames {
		if f&n.flag != 0 {
			s += "," + n.name
		}
	}
	return s
}

// parseMapFlags is the inverse of String; the words behind the first may come
// in any order, each once.
func parseMapFlags(s string) (MapFlags, error) {
	words := strings.Split(s, ",")
	var f MapFlags
	switch words[0] {
	case "private":
	case "shared":
		f = MapShared
	default:
		return 0, fmt.Errorf("flags %q start with neither private nor shared", clip(s))
	}
next:
	for _, w := range words[1:] {
		for _, n := range flagNames {
			if w == n.name && f&n.flag == 0 {
				f |= n.flag
				continue next
			}
		}
		return 0, fmt.Errorf("flag %q is none of %s, or comes twice", clip(w), flagList())
	}
	return f, nil
}

// flagList names all flags, for messages.
func flagList() string {
	s := make([]string, len(flagNames))
	for i, n := range flagNames {
		s[i] = n.name
	}
	return strings.Join(s, ", ")
}

// RemapFlags are the flags of mremap, with the bits of MREMAP_MAYMOVE and its
// like.
type RemapFlags uint8

const (
	RemapMayMove   RemapFlags = 1 << iota // MREMAP_MAYMOVE
	RemapFixed                            // MREMAP_FIXED
	RemapDontUnmap                        // MREMAP_DONTUNMAP

	remapFlags = 1<<iota - 1
)

var remapNames = []string{"maymove", "fixed", "dontunmap"}

// String returns the word of the text form: maymove,fixed; stay where there is
// none.
func (f RemapFlags) String() string {
	if f == 0 {
		return "stay"
	}
	var s []string
	for i, name := range remapNames {
		if f&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, ",")
}

// parseRemapFlags is the inverse of String.
func parseRemapFlags(s string) (RemapFlags, error) {
	for f := RemapFlags(0); f <= remapFlags; f++ {
		if f.String() == s {
			return f, nil
		}
	}
	return 0, fmt.Errorf("flags %q are neither stay nor maymove, fixed, dontunmap in this order", clip(s))
}

// Advice is the third argument of madvise, with the kernel's numbers
// (include/uapi/asm-generic/mman-common.h).
type Advice int32

// The advice that replays and recorders ask about.
const (
	AdviceNormal        Advice = 0
	AdviceRandom        Advice = 1
	AdviceSequential    Advice = 2
	AdviceWillNeed      Advice = 3
	AdviceDontNeed      Advice = 4
	AdviceFree          Advice = 8
	AdviceRemove        Advice = 9
	AdviceDontFork      Advice = 10
	AdviceDoFork        Advice = 11
	AdviceWipeOnFork    Advice = 18
	AdviceKeepOnFork    Advice = 19
	AdvicePopulateRead  Advice = 22
	AdvicePopulateWrite Advice = 23
	AdviceDontNeedLock  Advice = 24
	AdviceGuardInstall  Advice = 102
	AdviceGuardRemove   Advice = 103
)

var adviceNames = map[Advice]string{
	AdviceNormal: "normal", AdviceRandom: "random", AdviceSequential: "sequential", AdviceWillNeed: "willneed",
	AdviceDontNeed: "dontneed", AdviceFree: "free", AdviceRemove: "remove", AdviceDontFork: "dontfork", AdviceDoFork: "dofork",
	12: "mergeable", 13: "unmergeable", 14: "hugepage", 15: "nohugepage", 16: "dontdump", 17: "dodump",
	AdviceWipeOnFork: "wipeonfork", AdviceKeepOnFork: "keeponfork", 20: "cold", 21: "pageout",
	AdvicePopulateRead: "populate_read", AdvicePopulateWrite: "populate_write", AdviceDontNeedLock: "dontneed_locked",
	25: "collapse", AdviceGuardInstall: "guard_install", AdviceGuardRemove: "guard_remove",
}

var advices = func() map[string]Advice {
	m := make(map[string]Advice, len(adviceNames))
	for a, name := range adviceNames {
		m[name] = a
	}
	return m
}()

// String returns the word of the text form: dontneed; the number where it has no
// name.
func (a Advice) String() string {
	if s, ok := adviceNames[a]; ok {
		return s
	}
	return strconv.Itoa(int(a))
}

// parseAdvice is the inverse of String.
func parseAdvice(s string) (Advice, error) {
	if a, ok := advices[s]; ok {
		return a, nil
	}
	n, err := parseNumber(s, MaxPID)
	if err != nil {
		return 0, fmt.Errorf("advice %q is neither a known word nor a number", clip(s))
	}
	return Advice(n), nil
}

// ErrorCode is the error code that x86 pushed at a page fault, or 0: not known.
// Bits of arch/x86/include/asm/trap_pf.h.
type ErrorCode uint16

const (
	CodePresent ErrorCode = 1 << 0 // an entry was there and did not permit the access
	CodeWrite   ErrorCode = 1 << 1
	CodeUser    ErrorCode = 1 << 2 // in user mode; else the kernel touched for the process
	CodeFetch   ErrorCode = 1 << 4 // an instruction fetch

	CodeKnown ErrorCode = 1 << 15
	maxCode             = CodeKnown - 1
)
