package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	"golang.org/x/mod/sumdb/note"
)

const noteSuffix = ".checkpoint"

// Folder returns a function for [journal.Options.Witness] that keeps each checkpoint of the journal in dir in a file of its own, named
// for its size, in another folder. Nothing there is ever written over. A checkpoint that is older than the latest one there, or that
// the tiles in dir do not prove to follow it, is refused with journal.ErrTampered. A busy journal makes a checkpoint each
// journal.Options.CheckpointEvery; deleting old ones is the folder's owner's business, and only the latest is needed.
//
// The file system must know hard links. The function is for one journal, and must not be called concurrently.
func Folder(path, dir string, log note.Verifier) func(context.Context, journal.Checkpoint) error {
	return func(_ context.Context, c journal.Checkpoint) error {
		if err := os.MkdirAll(path, dirPerm); err != nil {
			return fmt.Errorf("witness: %w", err)
		}
		latest, err := Latest(path, log)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case latest.Size == c.Size && latest.Root == c.Root:
			return nil
		default:
			if err := c.Follows(dir, latest); err != nil {
				return fmt.Errorf("witness: %s: %w", path, err)
			}
		}
		return place(path, fmt.Sprintf("%020d%s", c.Size, noteSuffix), c.Note, os.Link)
	}
}

// Latest returns the latest checkpoint in a folder. The error is fs.ErrNotExist if there is none.
func Latest(path string, log note.Verifier) (journal.Checkpoint, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return journal.Checkpoint{}, fmt.Errorf("witness: %w", err)
	}
	for _, e := range slices.Backward(entries) {
		text, found := strings.CutSuffix(e.Name(), noteSuffix)
		size, err := strconv.ParseUint(text, 10, 63)
		if !found || err != nil || len(text) != 20 {
			continue
		}
		file := filepath.Join(path, e.Name())
		signed, err := readNote(file)
		if err != nil {
			return journal.Checkpoint{}, err
		}
		c, err := journal.OpenCheckpoint(signed, log)
		if err == nil && c.Size != size {
			err = fmt.Errorf("it is of %d records", c.Size)
		}
		if err != nil {
			return journal.Checkpoint{}, fmt.Errorf("witness: %s: %w", file, err)
		}
		return c, nil
	}
	return journal.Checkpoint{}, fmt.Errorf("witness: %s holds no checkpoint: %w", path, fs.ErrNotExist)
}
