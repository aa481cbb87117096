package session

import (
	"reflect"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// A file that is written while it is verified shows by its change time, with one
// exception. The kernel sets that time when a write begins
// (mm/filemap.c:generic_file_write_iter, file_update_time) and then copies: of a
// write under way when the file is opened, the bytes change, the time does not.
//
//	writer                              we
//	write: sets the change time
//	                                    open, stat
//	       copies the first bytes
//	                                    read them into the page cache
//	       copies the others
//	                                    read all of them as the truth: a mismatch
//	                                    stat: as before
//
// So a file that is not ok and was written shortly before it was opened is
// verified again. What a simulator makes of the same bytes is the same.

// settled reports whether verifying f, which gave res, gives it once more. Its
// events are those of the first time. The answer is yes where the run is stopped.
func (rig *Rig) settled(f mem.File, res FileResult) bool {
	events, witness := rig.opt.Events, rig.Witness
	rig.setEvents(nil)
	defer func() {
		rig.setEvents(events)
		rig.Witness = witness
	}()
	im, err := rig.parse(f)
	return reflect.DeepEqual(rig.verifyOnce(f, im, err), res) || rig.stopped() != nil
}

// setEvents changes where the events of the machine go, and of the witness, which
// is a new one.
func (rig *Rig) setEvents(s event.Sink) {
	rig.opt.Events = s
	rig.Machine.SetEvents(s)
	rig.Witness = verify.NewWitness(s)
}
