package verify

import "errors"

// Returned by New and Load, and by Witness.Assembled for the window's file.
var (
	// ErrFormat: the file holds no image that can be loaded at that bias.
	ErrFormat = errors.New("not a loadable x86-64 ELF file")
)

// Returned by what compares.
var (
	// ErrMismatch: memory is not what the file says; each failure was reported
	// as an event.
	ErrMismatch = errors.New("memory differs from the file")

	// ErrTooLarge: the image has more pages than ImageSHA256 will read.
	ErrTooLarge = errors.New("image is larger than 16 GiB")
)
