// Package vmsim is the corpus built into the program: small ELF binaries, each
// with a layout that has broken a loader or a page cache. README.md in
// testdata/elf draws them. The program itself is cmd/vmsim.
package vmsim

import (
	"embed"
	"fmt"
	"slices"
	"sync"

	"vmsim/mem"
)

// corpusDir is where the binaries lie in the checkout, each beside its source.
const corpusDir = "testdata/elf"

// One name a line, so that sources and notes stay out of the program.
//
//go:embed testdata/elf/beyond-eof
//go:embed testdata/elf/broken-sections
//go:embed testdata/elf/bss-large
//go:embed testdata/elf/bss-only
//go:embed testdata/elf/dynamic-pie
//go:embed testdata/elf/huge-data
//go:embed testdata/elf/huge-incongruent
//go:embed testdata/elf/huge-text
//go:embed testdata/elf/kevlar-layout
//go:embed testdata/elf/shared-memory-page
//go:embed testdata/elf/shared-object
//go:embed testdata/elf/shared-three
//go:embed testdata/elf/shared-two
//go:embed testdata/elf/static-nopie
//go:embed testdata/elf/static-pie
var corpusFS embed.FS

// Corpus returns the binaries in name order, named testdata/elf/NAME. Every
// call returns the same files, so that caches keyed by Identity hold.
func Corpus() []*mem.BytesFile { return slices.Clone(corpus()) }

var corpus = sync.OnceValue(func() []*mem.BytesFile {
	entries, err := corpusFS.ReadDir(corpusDir)
	if err != nil { // only a build without the directory could
		panic(fmt.Sprintf("embedded corpus: %v", err))
	}
	files := make([]*mem.BytesFile, 0, len(entries))
	for _, e := range entries {
		name := corpusDir + "/" + e.Name()
		data, err := corpusFS.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("embedded corpus: %v", err))
		}
		files = append(files, mem.NewBytesFile(name, data))
	}
	return files
})
