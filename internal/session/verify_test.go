package session

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// writableFile has .data in [0x402000, 0x404000).
func writableFile() *mem.BytesFile {
	return mem.NewBytesFile("writable", elfgen.Build(elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x402000, Offset: 0x1000, Filesz: 0x2000, Memsz: 0x2000, Flags: mem.ProtRead | mem.ProtWrite},
	}}, nil))
}

// TestPhaseThree: what the writes of the third phase can find.
func TestPhaseThree(t *testing.T) {
	f := writableFile()
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	run := func(prepare func(p *vm.Process, on *func(event.Event))) (FileResult, []event.Event) {
		var rec recorder
		on := func(event.Event) {}
		opt := options(t)
		opt.Events = TeeSink(&rec, event.Func(func(e event.Event) { on(e) }))
		b := newRig(t, opt)
		if _, err := b.Machine.Boot(nil); err != nil {
			t.Fatal(err)
		}
		init, _ := b.Machine.Process(1)
		p := init.Fork()
		if err := p.Exec(program(t, f)); err != nil {
			t.Fatal(err)
		}
		truth, err := verify.Load(f, vm.PIEBase)
		if err != nil {
			t.Fatal(err)
		}
		prepare(p, &on)
		var res FileResult
		if err := b.overwrite(p, truth, &res); err != nil {
			t.Fatal(err)
		}
		return res, rec.events
	}
	if res, events := run(func(*vm.Process, *func(event.Event)) {}); res.Failures != 0 || len(failures(events)) != 0 {
		t.Errorf("a machine that is right: %+v", res)
	}

	// A machine that refuses a write.
	res, _ := run(func(p *vm.Process, _ *func(event.Event)) {
		if err := p.Mprotect(0x403000, 0x1000, mem.ProtRead); err != nil {
			t.Fatal(err)
		}
	})
	refused := event.Segfault{PID: 2, VAddr: 0x403000, IP: 0x400100, Access: "write", Code: "SEGV_ACCERR"}
	last := refused
	last.VAddr = 0x403fff
	if d := cmp.Diff([]event.Event{refused, last}, res.FailureEvents); d != "" || res.Failures != 2 {
		t.Errorf("refused writes: %d failures (-want +got):\n%s", res.Failures, d)
	}

	// One that loses a write, when the next page is written.
	res, events := run(func(p *vm.Process, on *func(event.Event)) {
		*on = func(e event.Event) {
			if fault, ok := e.(event.PageFault); ok && fault.VAddr == 0x403000 {
				if err := p.InjectByte(0x402fff, 0xff); err != nil {
					t.Error(err)
				}
			}
		}
	})
	lost := event.PageVerifyFail{PID: 2, VAddr: 0x402000, FirstDiff: 0xfff, Expected: event.Byte(^data[0x1fff]),
		Actual: event.Byte(data[0x1fff]), FileOffset: 0x1000, VMAStart: 0x402000}
	if d := cmp.Diff([]event.Event{lost}, res.FailureEvents); d != "" || res.Failures != 1 {
		t.Errorf("lost write: %d failures (-want +got):\n%s", res.Failures, d)
	}
	if d := cmp.Diff([]event.Event{lost}, failures(events)); d != "" {
		t.Errorf("lost write, events (-want +got):\n%s", d)
	}
}

// TestRefusedAccess: a file whose pages may not be touched as its headers say
// has failed, also if no byte is wrong.
func TestRefusedAccess(t *testing.T) {
	var b *Rig
	opt := options(t)
	opt.Events = event.Func(func(e event.Event) {
		if exec, ok := e.(event.ProcessExec); ok && exec.PID == 3 {
			p, _ := b.Machine.Process(3)
			if err := p.Mprotect(0x403000, 0x1000, mem.ProtNone); err != nil {
				t.Error(err)
			}
		}
	})
	b = newRig(t, opt)
	res := b.Verify(writableFile())
	var want []event.Event
	for _, addr := range []event.Addr{0x403000, 0x403000, 0x403fff} { // the touch, then what would be written
		want = append(want, event.Segfault{PID: 3, VAddr: addr, IP: 0x400100, Access: "read", Code: "SEGV_ACCERR"})
	}
	if d := cmp.Diff(want, res.FailureEvents); d != "" || res.Failures != 3 || res.Verdict != Fail || res.Reason != "" {
		t.Errorf("%+v (-want +got):\n%s", res, d)
	}
}

// TestAreasBeyondTheHeaders: an area that permits more than the headers, or that
// no header asks for, is reported though no entry grants anything yet.
func TestAreasBeyondTheHeaders(t *testing.T) {
	var b *Rig
	var rec recorder
	opt := options(t)
	opt.Events = TeeSink(&rec, event.Func(func(e event.Event) {
		if exec, ok := e.(event.ProcessExec); ok && exec.PID == 3 {
			p, _ := b.Machine.Process(3)
			if err := p.Mprotect(0x400000, 0x1000, mem.ProtRead|mem.ProtWrite|mem.ProtExec); err != nil {
				t.Error(err)
			}
			for addr, pages := range map[mem.VirtAddr]uint64{0x500000: 3, 0x600000: 1} {
				if _, err := p.Mmap(vm.Mapping{Addr: addr, Len: pages * page, Fixed: true, Prot: mem.ProtRead}); err != nil {
					t.Error(err)
				}
			}
		}
	}))
	b = newRig(t, opt)
	res := b.Verify(writableFile())
	text := event.PermissionVerifyFail{PID: 3, VAddr: 0x400000, Expected: "r-x", Actual: "rwx"}
	seen := map[event.Event]int{}
	for _, e := range failures(rec.events) {
		seen[e]++
	}
	want := map[event.Event]int{text: 1,
		event.UnmappedVerifyFail{PID: 3, VAddr: 0x500000, Actual: "r--"}: 1,
		event.UnmappedVerifyFail{PID: 3, VAddr: 0x502000, Actual: "r--"}: 1,
		event.UnmappedVerifyFail{PID: 3, VAddr: 0x600000, Actual: "r--"}: 1}
	if d := cmp.Diff(want, seen); d != "" || res.Verdict != Fail || res.Failures != 4 {
		t.Errorf("%+v (-want +got):\n%s", res, d)
	}
}
