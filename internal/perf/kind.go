package perf

import "fmt"

// Kind is the type of a record (enum perf_event_type).
type Kind uint32

// The kinds whose contents are decoded. Of other kinds of the kernel a Record has
// the Kind and what the trailer says.
const (
	KindMmap        Kind = 1
	KindLost        Kind = 2
	KindComm        Kind = 3
	KindExit        Kind = 4
	KindThrottle    Kind = 5
	KindUnthrottle  Kind = 6
	KindFork        Kind = 7
	KindSample      Kind = 9
	KindMmap2       Kind = 10
	KindLostSamples Kind = 13

	// KindPosted is no record of the kernel: what Session.Post was given.
	KindPosted Kind = 1 << 31
)

// KindUser is the first kind that no kernel writes: from here on they are of the
// perf program's own making, in files (enum perf_user_event_type).
const KindUser Kind = 64

var kindNames = map[Kind]string{
	KindMmap: "MMAP", KindLost: "LOST", KindComm: "COMM", KindExit: "EXIT", KindThrottle: "THROTTLE",
	KindUnthrottle: "UNTHROTTLE", KindFork: "FORK", 8: "READ", KindSample: "SAMPLE", KindMmap2: "MMAP2", 11: "AUX",
	12: "ITRACE_START", KindLostSamples: "LOST_SAMPLES", 14: "SWITCH", 15: "SWITCH_CPU_WIDE", 16: "NAMESPACES",
	17: "KSYMBOL", 18: "BPF_EVENT", 19: "CGROUP", 20: "TEXT_POKE", 21: "AUX_OUTPUT_HW_ID", KindPosted: "POSTED",
}

// String returns the kernel's name of k, as in PERF_RECORD_MMAP2.
func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint32(k))
}
