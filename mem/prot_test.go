package mem

import "testing"

func TestProt(t *testing.T) {
	const r, w, x = ProtRead, ProtWrite, ProtExec
	for _, c := range []struct {
		p, effective      Prot
		text              string
		read, write, exec bool // accesses that an area with p lets through
	}{
		{ProtNone, ProtNone, "---", false, false, false},
		{r, r, "r--", true, false, false},
		{w, r | w, "-w-", true, true, false},
		{x, r | x, "--x", true, false, true},
		{r | w, r | w, "rw-", true, true, false},
		{r | x, r | x, "r-x", true, false, true},
		{w | x, r | w | x, "-wx", true, true, true},
		{r | w | x, r | w | x, "rwx", true, true, true},
	} {
		if got := c.p.Effective(); got != c.effective {
			t.Errorf("%v: effective %v, want %v", c.p, got, c.effective)
		}
		if c.p.String() != c.text {
			t.Errorf("%d: %v, want %s", c.p, c.p, c.text)
		}
		if got, err := ParseProt(c.text); err != nil || got != c.p {
			t.Errorf("parse %s: %v, %v", c.text, got, err)
		}
		for access, want := range map[Access]bool{Read: c.read, Write: c.write, Exec: c.exec} {
			if c.p.Allows(access) != want {
				t.Errorf("%v allows %v: %t", c.p, access, !want)
			}
			if c.effective.Allows(access) != want {
				t.Errorf("%v, effective, allows %v: %t", c.p, access, !want)
			}
		}
	}
	for _, bad := range []string{"", "r", "rw", "rwxp", "wr-", "RWX", "r x", "äx"} {
		if p, err := ParseProt(bad); err == nil || p != 0 {
			t.Errorf("parse %q: %v, %v", bad, p, err)
		}
	}
}

func TestAccess(t *testing.T) {
	for i, a := range []Access{Read, Write, Exec} {
		letter, word := "rwx"[i:i+1], []string{"read", "write", "exec"}[i]
		if a.Letter() != letter || a.String() != word {
			t.Errorf("%d: %s, %s", a, a.Letter(), a)
		}
		if got, err := ParseAccess(letter); err != nil || got != a {
			t.Errorf("parse %s: %v, %v", letter, got, err)
		}
	}
	for _, bad := range []string{"", "R", "rw", "read", " r"} {
		if a, err := ParseAccess(bad); err == nil || a != 0 {
			t.Errorf("parse %q: %v, %v", bad, a, err)
		}
	}
}
