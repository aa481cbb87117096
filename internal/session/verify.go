package session

import (
	"errors"
	"fmt"

	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// Verdict says how the verification of a file ended.
type Verdict string

const (
	OK      Verdict = "ok"
	Fail    Verdict = "FAIL"
	Skipped Verdict = "skipped"
)

// FileResult is what verifying one file found.
type FileResult struct {
	Path    string
	Size    int64 // of the file, in bytes
	Verdict Verdict
	Reason  string // of Skipped; or what ended a failed one early

	Pages         int       // touched and compared, in each of the three execs
	Faults        vm.Faults // of all processes
	Windows       int       // huge pages assembled
	FromCache     int       // their sub-pages, by origin
	FromFile      int
	Zero          int
	Boundary      int // pages with file bytes that no segment covers whole
	SharedIndexes int // pages of the file that two segments use
	BytesCompared uint64
	Failures      int           // in all
	FailureEvents []event.Event // the first of them
	ImageSHA256   string        // with Options.Digest
}

// Verify runs the verify protocol on one file, in a machine that is new:
//
//  1. fork and exec with nothing cached; touch every page, compare every byte;
//  2. fork and exec again: windows with enough cached pages are assembled, and
//     verified before they are mapped; touch and compare again, and look at
//     the permission of every entry and at what is mapped where no VMA is;
//  3. write to every touched page that is writable; fork and exec a third time
//     beside the writer: nothing of the writes is seen.
//
// The file alone is mapped, a PIE or a shared object at vm.PIEBase.
//
// A file that was written meanwhile is skipped as such.
func (rig *Rig) Verify(f mem.File) FileResult {
	im, err := rig.parse(f)
	return rig.verifyImage(f, im, err)
}

// parse returns the image of f that the machine maps.
func (rig *Rig) parse(f mem.File) (*loader.Image, error) {
	return loader.Parse(&hostFile{f, &rig.buf})
}

// verifyImage is Verify of f's image, or of the error that it has none.
func (rig *Rig) verifyImage(f mem.File, im *loader.Image, err error) FileResult {
	res := rig.verifyOnce(f, im, err)
	young, _ := f.(interface{ Young() bool })
	if res.Verdict != OK && young != nil && young.Young() && !rig.settled(f, res) {
		return changedResult(f)
	}
	return res
}

// changedResult is that of a file whose content was not one: what was compared
// says nothing.
func changedResult(f mem.File) FileResult {
	return FileResult{Path: f.Name(), Size: f.Size(), Verdict: Skipped, Reason: "changed while it was read"}
}

// verifyOnce is verifyImage, but for a write under way when f was opened.
func (rig *Rig) verifyOnce(f mem.File, im *loader.Image, err error) FileResult {
	rig.Reset()
	res := FileResult{Path: f.Name(), Size: f.Size()}
	if err == nil {
		err = rig.verify(f, im, &res)
	}
	if err == nil {
		err = rig.Witness.Err() // a window that was not verified: the file is not ok
	}
	t := rig.Witness.Tally()
	s := rig.Machine.Stats()
	res.Faults, res.Windows = s.Faults, s.Assembled
	res.FromCache, res.FromFile, res.Zero = s.FromCache, s.FromFile, s.Zero
	res.BytesCompared = t.BytesCompared
	res.Failures += t.Failures
	res.FailureEvents = append(rig.Witness.Failures(), res.FailureEvents...)
	changed, _ := f.(interface{ Changed() bool })
	switch {
	case changed != nil && changed.Changed():
		res = changedResult(f)
	case res.Failures > 0:
		res.Verdict = Fail
		if err != nil { // what was found before it counts
			res.Reason = Reason(err)
		}
	case err != nil:
		res.skip(err)
	default:
		res.Verdict = OK
	}
	return res
}

// skip says why a file was not verified, or not to its end: the figures are
// those of the part.
func (r *FileResult) skip(err error) { r.Verdict, r.Reason = Skipped, Reason(err) }

func (rig *Rig) verify(f mem.File, im *loader.Image, res *FileResult) error {
	truth, err := rig.Witness.Load(f, vm.PIEBase)
	if err != nil {
		return err
	}
	res.Boundary, res.SharedIndexes = truth.BoundaryPages(), truth.SharedIndexes()
	return enough(rig.threeExecs(vm.Program{Image: im}, truth, res), truth)
}

// threeExecs is the protocol.
func (rig *Rig) threeExecs(prog vm.Program, truth *verify.Truth, res *FileResult) error {
	init, err := rig.Machine.Boot(nil)
	if err != nil {
		return err
	}
	first, err := rig.execAndCompare(init, prog, truth, res)
	if err != nil {
		return err
	}
	first.Exit()
	second, err := rig.execAndCompare(init, prog, truth, res)
	if err != nil {
		return err
	}
	if rig.opt.Digest {
		if res.ImageSHA256, err = imageSHA256(second, truth); err != nil {
			return err
		}
	}
	if err := rig.overwrite(second, truth, res); err != nil {
		return err
	}
	_, err = rig.execAndCompare(init, prog, truth, res)
	return err
}

// execAndCompare forks, execs, touches every page of the truth in ascending
// order, and compares what the process sees.
func (rig *Rig) execAndCompare(init *vm.Process, prog vm.Program, truth *verify.Truth, res *FileResult) (*vm.Process, error) {
	p := init.Fork()
	if err := p.Exec(prog); err != nil {
		return nil, err
	}
	good, bad := 0, 0
	for addr := range truth.TouchPages() {
		if err := rig.stopped(); err != nil {
			return nil, err
		}
		ok, err := rig.comparePage(p, truth, addr)
		switch {
		case ok:
			good++
		case err == nil || res.refused(p, err):
			bad++
		default:
			return nil, err
		}
	}
	res.Pages = good + bad
	rig.Witness.Done(p.PID, good, bad)
	if rig.Witness.Permissions(p.PID, []*verify.Truth{truth}, p.Space(), []mem.Range{stackOf(p)}) {
		rig.areaPermissions(p, truth)
	}
	return p, nil
}

// areaPermissions looks at what p's areas permit, beyond what its entries grant
// now: on every touched page, and outside of the image.
func (rig *Rig) areaPermissions(p *vm.Process, truth *verify.Truth) {
	for v := range p.Areas() {
		if r := v.Range; !truth.Extent().Covers(r) && v.Name() != "[stack]" {
			rig.Witness.Permission(p.PID, truth, v.Start, v.Prot)
			if last := v.End - 1; last.PageDown() > v.Start {
				rig.Witness.Permission(p.PID, truth, last, v.Prot)
			}
		}
	}
	var prot mem.Prot
	var alike mem.Range
	for addr := range truth.TouchPages() {
		if !alike.Contains(addr) {
			prot, alike = p.ProtRun(addr)
		}
		rig.Witness.Permission(p.PID, truth, addr, prot)
	}
}

// comparePage reads one page as p does and compares it with the truth.
func (rig *Rig) comparePage(p *vm.Process, truth *verify.Truth, addr mem.VirtAddr) (ok bool, err error) {
	data, _, err := p.ReadPage(addr)
	if err != nil {
		return false, err
	}
	return rig.Witness.Page(p.PID, truth, addr, data)
}

// overwrite inverts the first and the last byte of every touched page that is
// writable, and reads them back when all are written. An access that is
// refused, or a write that is lost, is a failure.
func (rig *Rig) overwrite(p *vm.Process, truth *verify.Truth, res *FileResult) error {
	type written struct {
		addr  mem.VirtAddr
		value byte
	}
	var all []written
	var now [1]byte
	for page := range truth.TouchPages() {
		if prot, _ := truth.Prot(page); prot&mem.ProtWrite == 0 {
			continue
		}
		for _, addr := range []mem.VirtAddr{page, page + mem.PageSize - 1} {
			err := p.Read(addr, now[:])
			now[0] = ^now[0]
			w := written{addr, now[0]}
			if err == nil {
				_, err = p.Write(addr, now[:])
			}
			switch {
			case err == nil:
				all = append(all, w)
			case !res.refused(p, err):
				return err
			}
		}
	}
	for _, w := range all {
		if err := p.Read(w.addr, now[:]); err != nil {
			return err
		}
		if now[0] == w.value {
			continue
		}
		start, _, off := truth.FileVMAAt(w.addr)
		e := event.PageVerifyFail{PID: p.PID, VAddr: event.Addr(w.addr.PageDown()), FirstDiff: w.addr.PageOffset(),
			Expected: event.Byte(w.value), Actual: event.Byte(now[0]), FileOffset: event.Addr(off), VMAStart: event.Addr(start)}
		res.fail(e)
		if rig.opt.Events != nil {
			rig.opt.Events.Emit(e)
		}
	}
	return nil
}

// fail counts a failure that the witness did not see.
func (r *FileResult) fail(e event.Event) {
	r.Failures++
	r.FailureEvents = append(r.FailureEvents, e)
}

// refused counts an access that the headers permit and the machine refused,
// which has emitted this event. It is false where err is something else.
func (r *FileResult) refused(p *vm.Process, err error) bool {
	var segv *vm.Segfault
	if !errors.As(err, &segv) {
		return false
	}
	r.fail(event.Segfault{PID: p.PID, VAddr: event.Addr(segv.Addr), IP: event.Addr(p.IP()),
		Access: segv.Access.String(), Code: segv.Code()})
	return true
}

// userReader reads as the process does, faulting pages in.
type userReader struct {
	mem.AddressSpace
	p *vm.Process
}

func (u userReader) Read(addr mem.VirtAddr, b []byte) error {
	err := u.p.Read(addr, b)
	var segv *vm.Segfault
	if errors.As(err, &segv) {
		return fmt.Errorf("%w: %w", mem.ErrNotPresent, err)
	}
	return err
}

// imageSHA256 is empty for an image too large to hash, and for one with file
// bytes that nothing may read.
func imageSHA256(p *vm.Process, truth *verify.Truth) (string, error) {
	sum, err := truth.ImageSHA256(userReader{p.Space(), p})
	if errors.Is(err, verify.ErrTooLarge) || errors.Is(err, mem.ErrNotPresent) {
		return "", nil
	}
	return sum, err
}
