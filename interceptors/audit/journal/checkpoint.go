package journal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxCheckpoint is more than a checkpoint with all its signatures has.
const maxCheckpoint = 1 << 16

// Checkpoint is a signed statement that a journal's first Size records hash to Root.
type Checkpoint struct {
	// Size is the number of records.
	Size uint64
	// Root is the RFC 6962 hash over them.
	Root tlog.Hash
	// Note is the signed note, as it lies in the file "checkpoint".
	Note []byte
}

// OpenCheckpoint reads a signed checkpoint. Its origin must be the verifier's name, and one signature the verifier's; signatures of
// others, such as witnesses, are let be.
func OpenCheckpoint(signed []byte, verifier note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("journal: the checkpoint does not verify: %w", err)
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 {
		return Checkpoint{}, errors.New("journal: the checkpoint has fewer than three lines")
	}
	if lines[0] != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("journal: the checkpoint is of %q, not of %q", lines[0], verifier.Name())
	}
	c := Checkpoint{Note: signed}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("journal: the checkpoint's size %q is no number of records", lines[1])
	}
	c.Size = uint64(size)
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, fmt.Errorf("journal: the checkpoint's root %q is no hash", lines[2])
	}
	return c, nil
}

func signCheckpoint(size uint64, root tlog.Hash, signer note.Signer) (Checkpoint, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("journal: signing a checkpoint: %w", err)
	}
	return Checkpoint{Size: size, Root: root, Note: signed}, nil
}

// ReadCheckpoint returns the latest checkpoint of the journal in dir. The journal may be open elsewhere.
func ReadCheckpoint(dir string, verifier note.Verifier) (Checkpoint, error) {
	signed, err := readFile(nil, filepath.Join(dir, checkpointFile), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, tampered("%s is not there", filepath.Join(dir, checkpointFile))
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("journal: %w", err)
	}
	c, err := OpenCheckpoint(signed, verifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%s: %w", filepath.Join(dir, checkpointFile), err)
	}
	return c, nil
}

func (c Checkpoint) tree() tlog.Tree { return tlog.Tree{N: int64(c.Size), Hash: c.Root} }

// reader reads the hashes below c from the tiles in dir. What it returns is proved against c's root.
func (c Checkpoint) reader(dir string) tlog.HashReader { //nolint:ireturn // it is what tlog asks for and gives
	return tlog.TileHashReader(c.tree(), tiles(dir))
}

// Follows checks, with the tiles in dir, that c is of the records of an earlier checkpoint and those after them.
func (c Checkpoint) Follows(dir string, earlier Checkpoint) error { return c.holds(dir, earlier) }

// holds checks that an earlier checkpoint is of the same records.
func (c Checkpoint) holds(dir string, earlier Checkpoint) error {
	root := c.Root
	switch {
	case earlier.Size > c.Size:
		return tampered("a checkpoint of %d records is known, and there are %d", earlier.Size, c.Size)
	case earlier.Size == 0:
		root = (&tree{}).root()
	case earlier.Size < c.Size:
		var err error
		if root, err = tlog.TreeHash(int64(earlier.Size), c.reader(dir)); err != nil {
			return fmt.Errorf("journal: the tiles below record %d: %w", earlier.Size, err)
		}
	}
	if root != earlier.Root {
		return tampered("the first %d records are not those of a known checkpoint", earlier.Size)
	}
	return nil
}
