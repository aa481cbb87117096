package mem

import "fmt"

// Prot is what an area or a page-table entry permits, with the bits of
// PROT_READ, PROT_WRITE and PROT_EXEC.
type Prot uint8

const (
	ProtRead Prot = 1 << iota
	ProtWrite
	ProtExec
	ProtNone Prot = 0
)

// Effective returns what the hardware grants for p. x86-64 without protection
// keys cannot map a page that is present but not readable: an area that may be
// written or executed may be read (arch/x86/mm/pgprot.c, protection_map).
func (p Prot) Effective() Prot {
	if p == ProtNone {
		return p
	}
	return p | ProtRead
}

// Allows reports whether an area with protection p lets access a through on
// x86-64.
func (p Prot) Allows(a Access) bool {
	switch a {
	case Write:
		return p&ProtWrite != 0
	case Exec:
		return p&ProtExec != 0
	default:
		return p != ProtNone
	}
}

// String formats p as ls and /proc/PID/maps do: r-x.
func (p Prot) String() string {
	s := []byte("---")
	for i, b := range []Prot{ProtRead, ProtWrite, ProtExec} {
		if p&b != 0 {
			s[i] = "rwx"[i]
		}
	}
	return string(s)
}

// ParseProt is the inverse of String.
func ParseProt(s string) (Prot, error) {
	var p Prot
	if len(s) != 3 {
		return 0, fmt.Errorf("protection %q is not of the form rwx, r--, ---", s)
	}
	for i, b := range []Prot{ProtRead, ProtWrite, ProtExec} {
		switch s[i] {
		case "rwx"[i]:
			p |= b
		case '-':
		default:
			return 0, fmt.Errorf("protection %q is not of the form rwx, r--, ---", s)
		}
	}
	return p, nil
}

// Access is what a touch of memory wants to do.
type Access uint8

const (
	Read Access = iota
	Write
	Exec // an instruction fetch
)

// String returns read, write or exec.
func (a Access) String() string { return [...]string{"read", "write", "exec"}[a] }

// ParseAccess reads the one-letter form of traces: r, w or x.
func ParseAccess(s string) (Access, error) {
	switch s {
	case "r":
		return Read, nil
	case "w":
		return Write, nil
	case "x":
		return Exec, nil
	}
	return 0, fmt.Errorf("access %q is none of r, w, x", s)
}

// Letter returns r, w or x, the form of traces.
func (a Access) Letter() string { return "rwx"[a : a+1] }
