package importer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// lacks counts what a log did not tell, or a trace cannot say.
type lacks struct {
	running     bool           // strace was attached to a process that ran
	orphans     int            // processes without a parent
	vanished    int            // tasks whose PID came again
	detached    int            // tasks that strace let go
	silentExits int            // ends without a line
	halves      int            // second halves without a first
	unanswered  int            // calls without a result, or with one of strace's own
	forks       int            // forks that failed
	programs    int            // execs of a path that is not known whole
	argv        int            // execs without arguments
	alike       int            // mappings of objects that may be another of the same name
	refused     int            // refused accesses that stand as notes
	failed      int            // refused accesses that stand as touches
	prots       int            // protections with more than r, w and x
	flags       int            // flags that have no word in a trace
	kinds       int            // mappings neither private nor shared
	keys        int            // mprotects with a protection key
	sizes       int            // segments that may have been larger
	segments    int            // shmats of segments of unknown size
	remaps      int            // shmats with SHM_REMAP
	memory      map[string]int // calls about memory that a trace cannot say
}

// missing returns what the header says of it, a sentence each.
func (s *strace) missing(whole bool) []string {
	m := []string{
		"touches are missing: strace sees system calls alone",
		"what exec mapped is missing: bases of program and interpreter, stack, vdso; of a script, its interpreter",
		"identities of files are missing: size, time of change, build id",
		"sizes of memfds and of files that had been deleted are missing",
	}
	l := &s.lacks
	say := func(n int, format string) {
		if n > 0 {
			m = append(m, fmt.Sprintf(format, n))
		}
	}
	if l.running {
		m = append(m, "what the first process had mapped is missing: strace was attached while it ran, or its exec was not traced")
	}
	say(l.orphans, "parents are missing, and what they left in memory: of %d processes, which stand as children of init")
	say(l.vanished, "ends are missing: of %d processes or threads whose PIDs came again")
	say(l.silentExits, "when %d processes or threads ended is missing: the log has their calls of exit alone")
	say(l.detached, "what followed is missing of %d processes or threads that strace let go")
	say(l.halves, "%d calls are missing: the log has their second halves alone")
	say(l.unanswered, "%d calls are missing whose results strace did not see, or made up")
	say(l.forks, "%d forks are missing: they failed, which a trace cannot say")
	say(s.unknown, "%d files of mappings are missing: where their descriptors came from was not traced; they stand as "+Unknown+"/file-N")
	say(l.programs, "the folders of %d programs are missing: the calls that tell the current folder were not traced; they stand below "+Unknown)
	say(l.argv, "the arguments of %d execs are missing: strace cut them (use -s and -e abbrev=none)")
	say(l.alike, "which memory of the same name %d mappings are of is missing: memfd_create or open was not traced")
	if s.looked > 0 && s.closes == 0 {
		say(s.looked, "closes are missing: %d mappings stand as of the file that their descriptor was opened for, which may have changed")
	}
	say(l.failed, "whether %d refused accesses read, wrote or fetched is missing: they stand as reads")
	say(l.refused, "%d refused accesses are missing as touches: whether they read, wrote or fetched is not known; they stand as notes")
	say(l.prots, "PROT_GROWSDOWN and unknown bits are missing: of %d protections")
	say(l.flags, "flags of mmap or mremap that a trace has no words for are missing, as the size of huge pages: of %d calls")
	say(l.kinds, "%d mappings are missing that are neither private nor shared")
	say(l.keys, "protection keys are missing: of %d calls")
	say(l.sizes, "sizes of %d shared-memory segments may be missing: if they were there before, they can be larger than the call says")
	say(l.segments, "%d attachments of shared memory are missing: of what size it was is not known")
	say(l.remaps, "that %d attachments of shared memory replaced what was there is missing")
	if l.memory != nil {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(l.memory)) {
			names = append(names, fmt.Sprintf("%s (%d)", name, l.memory[name]))
		}
		m = append(m, "calls that a trace has no words for are missing: "+strings.Join(names, ", "))
	}
	switch {
	case !s.clock.began:
		m = append(m, "times are missing")
	case s.clock.back > 0:
		say(s.clock.back, "times are missing where the clock went back, %d times")
	}
	switch {
	case !whole:
		m = append(m, "what follows the line that could not be read is missing")
	default:
		say(len(s.tasks), "ends are missing: %d processes or threads lived on at the end of the log")
	}
	return m
}
