package ldso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ldd returns what ldd says a program loads: names to paths, "" where not found.
func ldd(t testing.TB, path string) map[string]string {
	t.Helper()
	cmd := exec.Command("ldd", path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") && !strings.Contains(string(out), "not found") {
		t.Fatalf("ldd %s: %v\n%s", path, err, out)
	}
	deps := map[string]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && strings.HasPrefix(words[1], "(") && words[0] != "linux-vdso.so.1":
			deps[words[0]] = words[0]
		case len(words) >= 3 && words[1] == "=>" && words[2] == "not":
			deps[words[0]] = ""
		case len(words) >= 3 && words[1] == "=>":
			deps[words[0]] = words[2]
		}
	}
	return deps
}

// ours returns the same from Deps.
func ours(t testing.TB, r *Resolver, path string) map[string]string {
	t.Helper()
	list, err := r.Deps(path)
	if err != nil && !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	deps := map[string]string{}
	for _, d := range list {
		if _, twice := deps[d.Name]; twice {
			t.Errorf("%s: %s twice", path, d.Name)
		}
		deps[d.Name] = d.Path
	}
	return deps
}

// host returns the Resolver of this system, and skips where ldd is not glibc's.
func host(t testing.TB) *Resolver {
	t.Helper()
	if _, err := exec.LookPath("ldd"); err != nil {
		t.Skip("no ldd (Debian package libc-bin)")
	}
	r, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cache) == 0 {
		t.Skip("no /etc/ld.so.cache")
	}
	return r
}

// TestHost compares with ldd on programs of this system, spread over /usr/bin.
func TestHost(t *testing.T) {
	r := host(t)
	all, err := filepath.Glob("/usr/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	const most = 60
	n := 0
	for i := 0; i < len(all); i += max(1, len(all)/most) {
		// ldd takes $ORIGIN from the path as given, a run from the file behind it.
		path, err := filepath.EvalSymlinks(all[i])
		if err != nil {
			continue
		}
		if dyn, err := readFile(path); err != nil || len(dyn.Needed) == 0 {
			continue
		}
		n++
		if d := cmp.Diff(ldd(t, path), ours(t, r, path)); d != "" {
			t.Errorf("%s (- ldd, + ours):\n%s", path, d)
		}
	}
	if n == 0 {
		t.Error("no program with libraries in /usr/bin")
	}
	t.Logf("%d programs", n)
}

// TestPaths links libraries that are found by RPATH, RUNPATH and their words, or
// are not, and compares with ldd.
func TestPaths(t *testing.T) {
	r := host(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc (Debian package gcc)")
	}
	lib := filepath.Base(r.Lib)
	for _, c := range []struct {
		name string
		main []string // linker options of the program, which needs liba
		a    []string // of liba, which needs libb
		at   [2]string
		want [2]string // "": not found
	}{
		{"none", nil, nil, [2]string{"x", "x"}, [2]string{"", ""}},
		{"rpath holds for the library's too", []string{"--disable-new-dtags", "-rpath=$ORIGIN/x"}, nil, [2]string{"x", "x"}, [2]string{"x", "x"}},
		{"runpath does not", []string{"--enable-new-dtags", "-rpath=$ORIGIN/x"}, nil, [2]string{"x", "x"}, [2]string{"x", ""}},
		{"runpath of both", []string{"--enable-new-dtags", "-rpath=$ORIGIN/x"}, []string{"--enable-new-dtags", "-rpath=${ORIGIN}/../y"}, [2]string{"x", "y"}, [2]string{"x", "x/../y"}},
		{"a runpath hides the rpath above", []string{"--disable-new-dtags", "-rpath=$ORIGIN/x"}, []string{"--enable-new-dtags", "-rpath=$ORIGIN/none"}, [2]string{"x", "x"}, [2]string{"x", ""}},
		{"an rpath does not", []string{"--disable-new-dtags", "-rpath=$ORIGIN/x"}, []string{"--disable-new-dtags", "-rpath=$ORIGIN/none"}, [2]string{"x", "x"}, [2]string{"x", "x"}},
		{"several", []string{"--disable-new-dtags", "-rpath=/none:$ORIGIN/none:$ORIGIN/y:$ORIGIN/x"}, nil, [2]string{"x", "y"}, [2]string{"x", "y"}},
		{"LIB", []string{"--disable-new-dtags", "-rpath=$ORIGIN/$LIB"}, nil, [2]string{r.Lib, r.Lib}, [2]string{r.Lib, r.Lib}},
		{"braces", []string{"--disable-new-dtags", "-rpath=${ORIGIN}/${LIB}"}, nil, [2]string{r.Lib, r.Lib}, [2]string{r.Lib, r.Lib}},
		{"an unknown word stays", []string{"--disable-new-dtags", "-rpath=$ORIGIN/$LIBX"}, nil, [2]string{"$LIBX", "$LIBX"}, [2]string{"$LIBX", "$LIBX"}},
		{"not the last part alone", []string{"--disable-new-dtags", "-rpath=$ORIGIN/$LIB"}, nil, [2]string{lib, lib}, [2]string{"", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			link := func(out string, src string, opt []string, args ...string) {
				t.Helper()
				os.MkdirAll(filepath.Dir(out), 0o755)
				args = append([]string{"-o", out, "-x", "c", "-", "-x", "none", "-Wl,--no-as-needed", "-nostartfiles"}, args...)
				for _, o := range opt {
					args = append(args, "-Wl,"+o)
				}
				cmd := exec.Command("gcc", args...)
				cmd.Stdin = strings.NewReader(src)
				if b, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, b)
				}
			}
			a, b, prog := filepath.Join(dir, c.at[0], "liba.so"), filepath.Join(dir, c.at[1], "libb.so"), filepath.Join(dir, "prog")
			link(b, "int b(void) { return 1; }", nil, "-shared", "-fPIC", "-Wl,-soname=libb.so")
			link(a, "int b(void); int a(void) { return b(); }", c.a, "-shared", "-fPIC", "-Wl,-soname=liba.so", b)
			link(prog, "int a(void); void _start(void) { a(); }", c.main, a, "-Wl,--allow-shlib-undefined")
			want := map[string]string{}
			for i, name := range []string{"liba.so", "libb.so"} {
				if c.want[i] != "" {
					want[name] = filepath.Join(dir, c.want[i]) + "/" + name
					if strings.Contains(c.want[i], "..") {
						want[name] = dir + "/" + c.want[i] + "/" + name
					}
				} else if i == 0 || c.want[0] != "" {
					want[name] = ""
				}
			}
			got := ours(t, r, prog)
			for name, path := range want {
				if got[name] != path {
					t.Errorf("%s is at %q, want %q", name, got[name], path)
				}
			}
			if d := cmp.Diff(ldd(t, prog), got); d != "" {
				t.Errorf("- ldd, + ours:\n%s", d)
			}
			if _, err := r.Deps(prog); errors.Is(err, ErrMissing) != slices.Contains(c.want[:], "") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// buildCache writes a cache.
func buildCache(old int, entries [][2]string, flags []uint32, hwcap []uint64) []byte {
	le := binary.LittleEndian
	var b []byte
	if old >= 0 {
		b = append([]byte(oldMagic), 0)
		b = le.AppendUint32(b, uint32(old))
		b = append(b, make([]byte, oldSize*old)...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	var table, text []byte
	at := newHeader + newSize*len(entries)
	for i, e := range entries {
		table = le.AppendUint32(table, flags[i])
		table = le.AppendUint32(table, uint32(at+len(text)))
		text = append(append(text, e[0]...), 0)
		table = le.AppendUint32(table, uint32(at+len(text)))
		text = append(append(text, e[1]...), 0)
		table = le.AppendUint32(table, 0)
		table = le.AppendUint64(table, hwcap[i])
	}
	b = append(b, newMagic...)
	b = le.AppendUint32(b, uint32(len(entries)))
	b = le.AppendUint32(b, uint32(len(text)))
	b = append(b, make([]byte, newHeader-28)...)
	return append(append(b, table...), text...)
}

func TestParseCache(t *testing.T) {
	entries := [][2]string{{"libz.so.1", "/lib/z1"}, {"libz.so.1", "/lib/z2"}, {"lib32.so", "/lib32/x"}, {"libv.so", "/v3/libv"}, {"libv.so", "/lib/libv"}}
	flags := []uint32{0x303, 0x303, 0x003, 0x303, 0x303}
	hwcap := []uint64{0, 0, 0, 1 << 62, 0}
	want := Cache{"libz.so.1": "/lib/z1", "libv.so": "/lib/libv"}
	for _, old := range []int{-1, 0, 3} {
		data := buildCache(old, entries, flags, hwcap)
		got, err := ParseCache(data)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("old part of %d entries: %v\n%s", old, err, d)
		}
		for n := range len(data) {
			if c, err := ParseCache(slices.Clip(data[:n])); err == nil && n < len(data)-1 {
				t.Fatalf("cut off at %d of %d: %v", n, len(data), c)
			}
		}
	}
}

func FuzzParseCache(f *testing.F) {
	f.Add(buildCache(-1, [][2]string{{"a", "b"}}, []uint32{0x303}, []uint64{0}))
	f.Add(buildCache(2, [][2]string{{"a", "b"}, {"c", "d"}}, []uint32{0x303, 1}, []uint64{0, 1}))
	if data, err := os.ReadFile("/etc/ld.so.cache"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCache(data)
		if (c == nil) != (err != nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil && !errors.Is(err, ErrCache) {
			t.Fatal(err)
		}
		for name, path := range c {
			if len(name) >= maxString || len(path) >= maxString {
				t.Fatalf("a name of %d and a path of %d bytes", len(name), len(path))
			}
		}
	})
}

func FuzzReadDynamic(f *testing.F) {
	for _, name := range []string{"dynamic-pie", "shared-object", "static-pie", "static-nopie", "kevlar-layout"} {
		data, err := os.ReadFile("../../testdata/elf/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 8192)])
	}
	if data, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ReadDynamic(bytes.NewReader(data))
		if err != nil && !errors.Is(err, ErrNotLibrary) && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if err == nil && len(d.Needed) > maxNeeded {
			t.Fatalf("%d names", len(d.Needed))
		}
	})
}

// TestSameFile: one file by two names is loaded once, by the first.
func TestSameFile(t *testing.T) {
	r := host(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc (Debian package gcc)")
	}
	dir := t.TempDir()
	gcc := func(args ...string) {
		t.Helper()
		cmd := exec.Command("gcc", append([]string{"-nostdlib", "-Wl,--no-as-needed"}, args...)...)
		cmd.Dir = dir
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "e.c"), []byte("void _start(void) {}"), 0o644); err != nil {
		t.Fatal(err)
	}
	gcc("-shared", "-fPIC", "-o", "libone.so", "e.c")
	if err := os.Symlink("libone.so", filepath.Join(dir, "libtwo.so")); err != nil {
		t.Fatal(err)
	}
	gcc("-o", "prog", "e.c", "libone.so", "libtwo.so", "-Wl,-rpath,$ORIGIN")
	prog := filepath.Join(dir, "prog")
	got := ours(t, r, prog)
	if _, twice := got["libtwo.so"]; twice || got["libone.so"] != filepath.Join(dir, "libone.so") {
		t.Errorf("%v", got)
	}
	if d := cmp.Diff(ldd(t, prog), got); d != "" {
		t.Logf("ldd, which prints every name (- ldd, + ours):\n%s", d)
	}
}

// dynamicELF writes a library with the given dynamic section and string table.
func dynamicELF(strtab string, entries ...[2]uint64) []byte {
	le := binary.LittleEndian
	const dynOff, strOff = 0x100, 0x400
	b := make([]byte, strOff, strOff+len(strtab))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], etDyn)
	le.PutUint16(b[18:], emX86_64)
	le.PutUint64(b[32:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 2)
	phdr := func(i int, typ uint32, off, vaddr, size uint64) {
		p := b[ehdrSize+i*phdrSize:]
		le.PutUint32(p, typ)
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], vaddr)
		le.PutUint64(p[32:], size)
	}
	phdr(0, ptLoad, 0, 0x10000, strOff+uint64(len(strtab)))
	phdr(1, ptDynamic, dynOff, 0x10000+dynOff, uint64(len(entries)*dynSize))
	for i, e := range entries {
		le.PutUint64(b[dynOff+i*dynSize:], e[0])
		le.PutUint64(b[dynOff+i*dynSize+8:], e[1])
	}
	return append(b, strtab...)
}

// TestDynamicSection: sections written by hand, sane and not.
func TestDynamicSection(t *testing.T) {
	const strings = "\x00liba.so\x00/r\x00/run\x00end"
	table, size := [2]uint64{dtStrtab, 0x10400}, [2]uint64{dtStrsz, uint64(len(strings))}
	for _, c := range []struct {
		name    string
		entries [][2]uint64
		want    Dynamic
		err     string
	}{
		{"the table may come last", [][2]uint64{{dtNeeded, 1}, {dtSoname, 1}, size, table}, Dynamic{Needed: []string{"liba.so"}, Soname: "liba.so"}, ""},
		{"rpath", [][2]uint64{table, size, {dtRpath, 9}}, Dynamic{Rpath: "/r"}, ""},
		{"runpath hides rpath", [][2]uint64{table, size, {dtRpath, 9}, {dtRunpath, 12}}, Dynamic{Runpath: "/run"}, ""},
		{"in either order", [][2]uint64{table, size, {dtRunpath, 12}, {dtRpath, 9}}, Dynamic{Runpath: "/run"}, ""},
		{"nothing behind DT_NULL", [][2]uint64{table, size, {dtNull, 0}, {dtNeeded, 1}}, Dynamic{}, ""},
		{"no default directories", [][2]uint64{{dtFlags1, df1NoDefLib}}, Dynamic{NoDef: true}, ""},
		{"no table", [][2]uint64{{dtNeeded, 1}}, Dynamic{}, "no string table"},
		{"table in no segment", [][2]uint64{{dtStrtab, 0x20000}, size, {dtNeeded, 1}}, Dynamic{}, "in no segment"},
		{"name beyond the table", [][2]uint64{table, size, {dtNeeded, uint64(len(strings))}}, Dynamic{}, "of a string table of"},
		{"table smaller than the names", [][2]uint64{table, {dtStrsz, 5}, {dtNeeded, 9}}, Dynamic{}, "of a string table of"},
		{"name without an end", [][2]uint64{table, size, {dtNeeded, 17}}, Dynamic{}, "no NUL"},
		{"name cut by the size of the table", [][2]uint64{table, {dtStrsz, 4}, {dtNeeded, 1}}, Dynamic{}, "no NUL"},
	} {
		got, err := ReadDynamic(bytes.NewReader(dynamicELF(strings, c.entries...)))
		if c.err != "" {
			if !errors.Is(err, ErrMalformed) || !contains(err, c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if d := cmp.Diff(c.want, *got); d != "" {
			t.Errorf("%s:\n%s", c.name, d)
		}
	}
}

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

// TestReadDynamic reads the fixtures, whose rules in the Makefile say what is in
// them.
func TestReadDynamic(t *testing.T) {
	for name, want := range map[string]Dynamic{
		"dynamic-pie":   {Interp: "/lib64/ld-linux-x86-64.so.2"},
		"shared-object": {Soname: "shared-object"},
		"static-nopie":  {},
	} {
		f, err := os.Open("../../testdata/elf/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := ReadDynamic(f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(want, *got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
	if d, err := ReadDynamic(strings.NewReader("#!/bin/sh\n")); !errors.Is(err, ErrNotLibrary) {
		t.Errorf("a script: %v, %v", d, err)
	}
}
