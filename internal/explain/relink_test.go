package explain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmsim/mem"
)

// need skips a test where a program is missing.
func need(t testing.TB, pkg string, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s (Debian package %s)", p, pkg)
		}
	}
}

func command(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// program is what an object file holds, in bytes.
type program struct {
	text, ro, relro, data, bss uint64
	symbols                    int // more of them, behind the segments
}

// object assembles a program, and returns the path of the object file.
func (p program) object(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, ".text\n.globl _start\n_start: mov $60,%%eax; xor %%edi,%%edi; syscall\n.fill %d,1,0x90\n", p.text-9)
	fmt.Fprintf(&b, ".section .rodata,\"a\"\n.fill %d,1,0x41\n", p.ro)
	if p.relro > 0 {
		fmt.Fprintf(&b, ".section .data.rel.ro,\"aw\"\n.fill %d,1,1\n", p.relro)
	}
	fmt.Fprintf(&b, ".data\n.fill %d,1,0x42\n.bss\n.zero %d\n", p.data, p.bss)
	for i := range p.symbols {
		fmt.Fprintf(&b, ".set symbol_%d, %d\n.globl symbol_%d\n", i, i, i)
	}
	src, obj := filepath.Join(dir, "o.S"), filepath.Join(dir, "o.o")
	if err := os.WriteFile(src, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "gcc", "-c", "-o", obj, src)
	return obj
}

// explainFile opens and explains a file.
func explainFile(t testing.TB, path string, opt Options) *Report {
	t.Helper()
	f, err := mem.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Explain(f, opt)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

var defaults = Options{Threshold: 128, Base: 0xa00000000}

// How near a computed size comes to the real one. The contents of a segment are
// not always the same in another layout: sections are aligned anew (64 bytes
// are the most that gcc asks for), .eh_frame and .relro_padding differ from
// linker to linker, and the table of section headers is aligned to 8.
const (
	sameLinker  = 256     // bytes
	otherLinker = 3 << 12 // bytes, and one part in 50: LLD merges strings and has other .plt and .got
)

// TestRelink links the same objects with and without each fix, and compares the
// size and the huge bytes of the real file with those that were computed from
// the one without.
func TestRelink(t *testing.T) {
	need(t, "gcc", "gcc", "ld")
	const mib = 1 << 20
	for i, p := range []program{
		{text: 5000000, ro: 1500000, relro: 24, data: 300000, bss: 100000},
		{text: 5000000, ro: 1500000, data: 300000, bss: 100000, symbols: 100},
		{text: 2*mib + 100, ro: 2 * mib, relro: 5000, data: 7, bss: 3 * mib},
		{text: 2 * mib, ro: 100, data: 4096, bss: 0}, // a data segment that ends at a page
		{text: 100000, ro: 4096, relro: 64, data: 3000, bss: 9000},
		{text: 9*mib + 12345, ro: 7 * mib, relro: 2*mib + 17, data: mib, bss: 0, symbols: 3},
	} {
		dir := t.TempDir()
		obj := p.object(t, dir)
		for _, kind := range [][]string{{"", "-pie"}, {""}, {"-pie"}, {""}, {"-pie"}, {"-shared"}}[i] {
			for _, from := range []string{"ld", "ld -z noseparate-code", "ld.lld", "ld.lld --no-rosegment", "ld.lld -z separate-code", "ld -z norelro"} {
				t.Run(fmt.Sprintf("%d %s %s", i, from, kind), func(t *testing.T) {
					linker := strings.Fields(from)
					need(t, "lld", linker[0])
					plain := filepath.Join(t.TempDir(), "plain")
					link := func(out string, words ...string) {
						args := append(words[1:], "-o", out, obj)
						if kind != "" {
							args = append([]string{kind}, args...)
						}
						command(t, dir, words[0], args...)
					}
					link(plain, linker...)
					r := explainFile(t, plain, defaults)
					if len(r.Fixes) == 0 {
						c, err := r.contents()
						t.Fatalf("no fix: %+v, %v", c, err)
					}
					if c, _ := r.contents(); p.relro > 0 && c.lld != (linker[0] == "ld.lld") {
						t.Errorf("taken for LLD's: %v", c.lld)
					}
					for _, fix := range r.Fixes {
						if fix.Script {
							continue // TestRelinkScript
						}
						words, tolerance := []string{"ld"}, uint64(sameLinker)
						if fix.Linker == "LLD" {
							words[0] = "ld.lld"
						}
						if words[0] != linker[0] {
							tolerance = otherLinker + r.Size/50
						}
						need(t, "lld", words[0])
						for _, w := range strings.Fields(fix.Flags) {
							if flags, ok := strings.CutPrefix(w, "-Wl,"); ok {
								words = append(words, strings.Split(flags, ",")...)
							}
						}
						if from == "ld -z norelro" {
							words = append(words, "-z", "norelro")
						}
						real := filepath.Join(t.TempDir(), "real")
						link(real, words...)
						got := explainFile(t, real, defaults)
						if d := max(got.Size, fix.FileSize) - min(got.Size, fix.FileSize); d > tolerance {
							t.Errorf("%s: %d bytes, computed %d (%d off); plain %d", fix.Flags, got.Size, fix.FileSize, int64(fix.FileSize)-int64(got.Size), r.Size)
							for _, s := range fix.layout.segs {
								t.Logf("computed off %#x vaddr %#x filesz %#x memsz %#x %v", s.Offset, s.Vaddr, s.Filesz, s.Memsz, s.Prot)
							}
							for _, s := range got.Image.Segments {
								t.Logf("real     off %#x vaddr %#x filesz %#x memsz %#x %v", s.Offset, s.Vaddr, s.Filesz, s.Memsz, s.Prot)
							}
						}
						checkFix(t, fix, got, p.text)
					}
				})
			}
		}
	}
}

// checkFix compares what a fix makes huge with the file that was linked so.
func checkFix(t *testing.T, fix Fix, got *Report, text uint64) {
	t.Helper()
	h, g := got.ByBase[Aligned], fix.Gain()
	if h.Windows.Min != g.Huge {
		t.Errorf("%s: %d windows, computed %d", fix.Flags, h.Windows.Min, g.Huge)
	}
	// Text and read-only data in one segment count as text in the file.
	if merged := strings.Contains(fix.Flags, "noseparate-code") || strings.Contains(fix.Flags, "no-rosegment"); !merged &&
		(h.Text.Min-fix.Text >= mem.PageSize && !fix.Script || h.ReadOnly.Min-fix.ReadOnly >= mem.PageSize) { // of the last page, what is beyond the segment
		t.Errorf("%s: huge %d bytes of text, %d read-only; computed %d, %d", fix.Flags, h.Text.Min, h.ReadOnly.Min, fix.Text, fix.ReadOnly)
	}
	// A merged text is all that a file says of it; else the text is known.
	if text > 0 && fix.Text > max(got.Text, text) || fix.Text+fix.ReadOnly > g.Huge*mem.HugeSize {
		t.Errorf("%s: %d bytes of text and %d read-only in %d windows", fix.Flags, fix.Text, fix.ReadOnly, g.Huge)
	}
}

// TestRelinkScript pads the text by GNU ld's own script with one line more.
func TestRelinkScript(t *testing.T) {
	need(t, "gcc", "gcc", "ld")
	p := program{text: 3000000, ro: 700000, relro: 24, data: 300000, bss: 100000}
	dir := t.TempDir()
	obj := p.object(t, dir)
	plain, real, script := filepath.Join(dir, "plain"), filepath.Join(dir, "real"), filepath.Join(dir, "script")
	command(t, dir, "ld", "-o", plain, obj)
	out, err := exec.Command("ld", "--verbose").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), "==================================================\n")
	text, _, ok := strings.Cut(text, "==================================================")
	padded := strings.Replace(text, "*(.gnu.warning)", "*(.gnu.warning)\n    . = ALIGN(0x200000);", 1)
	if !ok || padded == text {
		t.Fatalf("the default script of ld has changed:\n%s", text)
	}
	if err := os.WriteFile(script, []byte(padded), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "ld", "-T", script, "-z", "max-page-size=2097152", "-o", real, obj)
	r, got := explainFile(t, plain, defaults), explainFile(t, real, defaults)
	fix := r.Fixes[len(r.Fixes)-1]
	if !fix.Script {
		t.Fatalf("the last fix is %+v", fix)
	}
	if d := max(got.Size, fix.FileSize) - min(got.Size, fix.FileSize); d > sameLinker {
		t.Errorf("%d bytes, computed %d", got.Size, fix.FileSize)
	}
	checkFix(t, fix, got, p.text)
	if fix.Text < p.text {
		t.Errorf("%d bytes of text huge, of %d", fix.Text, p.text)
	}
}

// TestRelinkC does the same through the compiler driver, with a program as
// compilers make them: calls of a library, tables of pointers, exception frames,
// strings.
func TestRelinkC(t *testing.T) {
	need(t, "gcc", "gcc", "ld")
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n")
	const functions = 500
	for i := range functions {
		fmt.Fprintf(&b, "int f%d(int n) { char s[64]; int i, k = n; for (i = 0; i < n; i++) k += i * %d ^ k >> 3;\n"+
			"snprintf(s, sizeof s, \"number %d of %%d\", k); if (n > %d) puts(s); return k + (int)strlen(s) + atoi(s + %d); }\n",
			i, i+3, i, i, i%40)
	}
	b.WriteString("int (*const table[])(int) = {")
	for i := range functions {
		fmt.Fprintf(&b, "f%d,", i)
	}
	b.WriteString("};\nstatic char big[3000000] = {1};\nint main(int n, char **v) { return table[n](n) + big[n]; }\n" +
		"asm(\".text; .fill 3000000,1,0x90\");\n")
	src, obj := filepath.Join(dir, "c.c"), filepath.Join(dir, "c.o")
	if err := os.WriteFile(src, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "gcc", "-O1", "-fPIE", "-g1", "-c", "-o", obj, src)
	for _, from := range []string{"", "-no-pie", "-pie -Wl,-z,now", "-fuse-ld=lld"} {
		if strings.Contains(from, "lld") {
			need(t, "lld", "ld.lld")
		}
		plain := filepath.Join(dir, "plain")
		command(t, dir, "gcc", append(strings.Fields(from), "-o", plain, obj)...)
		r := explainFile(t, plain, defaults)
		if len(r.Fixes) == 0 {
			t.Fatalf("%q: no fix", from)
		}
		for _, fix := range r.Fixes {
			if fix.Script {
				continue
			}
			if fix.Linker == "LLD" {
				need(t, "lld", "ld.lld")
			}
			tolerance := uint64(sameLinker)
			if strings.Contains(fix.Flags, "lld") {
				tolerance = otherLinker + r.Size/50
			}
			real := filepath.Join(dir, "real")
			command(t, dir, "gcc", append(append(strings.Fields(from), strings.Fields(fix.Flags)...), "-o", real, obj)...)
			got := explainFile(t, real, defaults)
			d := int64(fix.FileSize) - int64(got.Size)
			t.Logf("%q %s: now %d, then %d, computed %+d", from, fix.Flags, r.Size, got.Size, d)
			if max(d, -d) > int64(tolerance) {
				t.Errorf("%q %s: %d bytes, computed %d", from, fix.Flags, got.Size, fix.FileSize)
			}
			checkFix(t, fix, got, 0)
		}
	}
}
