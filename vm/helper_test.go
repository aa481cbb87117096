package vm

import (
	"testing"

	"vmsim/hugepage"
	"vmsim/mem"
)

// newMachine returns a machine that is checked once more at the end, and then
// reset, which panics on a leak.
func newMachine(t testing.TB, cfg Config) *Machine {
	t.Helper()
	if cfg.Memory == 0 {
		cfg.Memory = 64 << 20
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Check(); err != nil {
			t.Error(err)
		}
		m.Reset()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// kevlar returns the policy with this threshold; 600 never assembles.
func kevlar(t testing.TB, threshold int, bugs ...string) hugepage.Policy {
	t.Helper()
	k, err := hugepage.NewKevlar(threshold, bugs...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// boot makes the first process, without a program where none is named.
func boot(t testing.TB, m *Machine, name ...string) *Process {
	t.Helper()
	var prog *Program
	if len(name) > 0 {
		prog = &mustPrograms(t, name[0])[0].prog
	}
	p, err := m.Boot(prog)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func exec(t testing.TB, p *Process, name string) {
	t.Helper()
	if err := p.Exec(mustPrograms(t, name)[0].prog); err != nil {
		t.Fatal(err)
	}
}

func mmap(t testing.TB, p *Process, a Mapping) mem.VirtAddr {
	t.Helper()
	at, err := p.Mmap(a)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// touch makes an access and demands what it costs.
func touch(t testing.TB, p *Process, addr mem.VirtAddr, a mem.Access, want FaultKind) {
	t.Helper()
	if got, err := p.Touch(addr, a); err != nil || got != want {
		t.Fatalf("process %d: %v at %v: %v, %v, want %v", p.PID, a, addr, got, err, want)
	}
}

func write(t testing.TB, p *Process, addr mem.VirtAddr, s string) {
	t.Helper()
	if _, err := p.Write(addr, []byte(s)); err != nil {
		t.Fatal(err)
	}
}

// reads demands the bytes that a process sees.
func reads(t testing.TB, p *Process, addr mem.VirtAddr, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if err := p.Read(addr, b); err != nil || string(b) != want {
		t.Fatalf("process %d reads %q at %v, %v, want %q", p.PID, b, addr, err, want)
	}
}
