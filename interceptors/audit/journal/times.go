package journal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// When a segment began is what decides whether the records before it are old enough to be deleted. So the journal signs it, in a note of
// its own for each segment: who has the disk and not the key could otherwise make the journal itself delete what they like, and sign
// that its time was over. The note's second line is no number, so it is no checkpoint.
const (
	timesDir = "times"
	timeLine = "segment"
	maxTime  = 4096 // bytes, more than a note has
)

func timePath(dir string, first uint64) string {
	return filepath.Join(dir, timesDir, fmt.Sprintf("%020d", first))
}

// timeText is what is signed, up to the time itself.
func (j *Journal) timeText(first uint64) string {
	return fmt.Sprintf("%s\n%s\n%s\n%d\n", j.opts.Signer.Name(), timeLine, hex.EncodeToString(j.id[:]), first)
}

// writeTime signs when a segment began.
func (j *Journal) writeTime(first uint64, began time.Time) error {
	path := timePath(j.dir, first)
	signed, err := note.Sign(&note.Note{Text: j.timeText(first) + began.UTC().Format(time.RFC3339Nano) + "\n"}, j.opts.Signer)
	if err != nil {
		return fmt.Errorf("journal: signing %s: %w", path, err)
	}
	if err := replaceFile(filepath.Dir(path), filepath.Base(path), signed); err != nil {
		return full("writing", path, err)
	}
	return nil
}

// readTime returns when a segment began. It is not ok if nothing says so.
func (j *Journal) readTime(first uint64) (began time.Time, ok bool, err error) {
	path := timePath(j.dir, first)
	signed, err := readFile(nil, path, maxTime)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("journal: %w", err)
	}
	n, err := note.Open(signed, note.VerifierList(j.opts.Verifier))
	if err != nil {
		return time.Time{}, false, tampered("%s does not verify: %v", path, err)
	}
	text, found := strings.CutPrefix(n.Text, j.timeText(first))
	began, err = time.Parse(time.RFC3339Nano, strings.TrimSuffix(text, "\n"))
	if !found || err != nil {
		return time.Time{}, false, tampered("%s is not of the segment that begins with record %d", path, first)
	}
	return began, true, nil
}

// forgetTime removes what said when a segment began that is deleted.
func forgetTime(dir string, first uint64) error {
	if err := os.Remove(timePath(dir, first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
