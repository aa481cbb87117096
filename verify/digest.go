package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"vmsim/mem"
)

// maxDigest is the most that ImageSHA256 reads, in bytes.
const maxDigest = 16 << 30

// ImageSHA256 returns the SHA-256, in hex, over the 4096 bytes of every page of
// ImagePages in order, as as sees them. A page that is not present counts as
// zeros if it has no file byte.
//
// It returns ErrTooLarge if the image has more than 16 GiB of pages, a wrapped
// mem.ErrNotPresent for an absent page with file bytes, or the wrapped error of
// as.Read.
func (t *Truth) ImageSHA256(as mem.AddressSpace) (string, error) {
	if n := t.ImagePageCount(); n > maxDigest/mem.PageSize {
		return "", fmt.Errorf("digest of %d pages: %w", n, ErrTooLarge)
	}
	h := sha256.New()
	buf := make([]byte, mem.PageSize)
	for p := range t.ImagePages() {
		switch err := as.Read(p, buf); {
		case err == nil:
			h.Write(buf)
		case errors.Is(err, mem.ErrNotPresent) && !t.HasFileBytes(p):
			h.Write(zeroPage[:])
		default:
			return "", fmt.Errorf("digest of page %v: %w", p, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
