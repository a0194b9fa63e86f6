package journal

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

// Who has the disk, and not the key, cannot make records look old enough to be deleted.
func TestBackdated(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string, second uint64)
		want   error
	}{
		{"the segments", func(t *testing.T, dir string, second uint64) {
			t.Helper()
			for _, first := range []uint64{0, second} {
				edit(t, segmentPath(dir, first), func(b []byte) []byte {
					h, err := decodeHeader(b)
					check(t, err)
					h.created = time.Unix(0, 0)
					return append(h.encode(), b[headerSize:]...)
				})
			}
		}, nil},
		{"the statement", func(t *testing.T, dir string, second uint64) {
			t.Helper()
			edit(t, timePath(dir, second), func(b []byte) []byte { return bytes.Replace(b, []byte("\n2030-"), []byte("\n2020-"), 1) })
		}, ErrTampered},
		{"the statement, by that of another segment", func(t *testing.T, dir string, second uint64) {
			t.Helper()
			other, err := os.ReadFile(timePath(dir, 0))
			check(t, err)
			edit(t, timePath(dir, second), func([]byte) []byte { return other })
		}, ErrTampered},
		{"the statement, by that of another journal", func(t *testing.T, dir string, second uint64) {
			t.Helper()
			other := t.TempDir()
			opts := options()
			opts.Now = func() time.Time { return time.Unix(0, 0) }
			j := mustOpen(t, other, opts)
			fill(t, j, int(second)+1)
			mustClose(t, j)
			b, err := os.ReadFile(timePath(other, second))
			check(t, err)
			edit(t, timePath(dir, second), func([]byte) []byte { return b })
		}, ErrTampered},
		{"the statement, removed", func(t *testing.T, dir string, second uint64) {
			t.Helper()
			check(t, os.Remove(timePath(dir, second)))
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			opts := options()
			opts.Now = func() time.Time { return now }
			j := mustOpen(t, dir, opts)
			fill(t, j, 150)
			mustClose(t, j)
			firsts, err := listSegments(dir)
			check(t, err)
			tt.change(t, dir, firsts[1])
			j = mustOpen(t, dir, opts)
			first, err := j.Prune(t.Context())
			if first != 0 || !errors.Is(err, tt.want) {
				t.Errorf("records before %d were deleted, %v, want %v", first, err, tt.want)
			}
			mustClose(t, j)
		})
	}
}
