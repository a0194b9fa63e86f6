package otlpexport

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cursor is the file that says how far the collector has confirmed, held by one exporter at a time. It is text, for people too:
//
//	grpcguard export cursor 1
//	journal bank.example/ledger/audit
//	next 1234
//
//	the signed checkpoint of the journal that covered the records before next
//
// The checkpoint is there because a journal's name is not enough: of a journal that was begun anew under the same name, records would be
// taken for sent that never were.
type cursor struct {
	path string
	lock *os.File
}

// state is what a cursor says.
type state struct {
	journal    string
	next       uint64
	checkpoint []byte
}

const cursorHead = "grpcguard export cursor 1"

// ErrLocked says that another exporter, of this process or another, uses the cursor.
var ErrLocked = errors.New("otlpexport: the cursor is in use")

func openCursor(path string) (*cursor, error) {
	held, err := lock(path + ".lock")
	if err != nil {
		return nil, err
	}
	return &cursor{path, held}, nil
}

func (c *cursor) close() error { return unlock(c.lock) }

// load reads the cursor. It is not ok where there is no file.
func (c *cursor) load() (s state, ok bool, err error) {
	text, err := os.ReadFile(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return state{}, false, nil
	case err != nil:
		return state{}, false, fmt.Errorf("otlpexport: reading the cursor: %w", err)
	}
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) != 3 || lines[0] != cursorHead {
		return state{}, false, fmt.Errorf("otlpexport: %s is no cursor", c.path)
	}
	journal, isJournal := strings.CutPrefix(lines[1], "journal ")
	number, isNumber := strings.CutPrefix(lines[2], "next ")
	next, err := strconv.ParseUint(number, 10, 63)
	if !isJournal || !isNumber || err != nil {
		return state{}, false, fmt.Errorf("otlpexport: %s is no cursor", c.path)
	}
	return state{journal, next, []byte(checkpoint)}, true, nil
}

// save makes s durable. A crash leaves the cursor as it was or as it is now.
func (c *cursor) save(s state) error {
	text := fmt.Appendf(nil, "%s\njournal %s\nnext %d\n\n%s", cursorHead, s.journal, s.next, s.checkpoint)
	if err := replace(c.path, text); err != nil {
		return fmt.Errorf("otlpexport: writing the cursor: %w", err)
	}
	return nil
}

func replace(path string, text []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the file is the one that the user names
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil { //nolint:gosec // see above
		return err
	}
	dir, err := os.Open(filepath.Dir(path)) //nolint:gosec // see above
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
