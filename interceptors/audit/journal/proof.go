package journal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	recordProofLine = "c2sp.org/tlog-proof@v1"
	maxProof        = 64 // hashes; a tree of 2^63 leaves has no longer path
)

// ProveRecord returns the proof, against the latest checkpoint in dir, that record index is in the journal. Its form is C2SP
// tlog-proof: a text that CheckRecord, and others' tools, check without the journal.
func ProveRecord(dir string, verifier note.Verifier, index uint64) ([]byte, error) {
	c, err := ReadCheckpoint(dir, verifier)
	if err != nil {
		return nil, err
	}
	if index >= c.Size {
		return nil, fmt.Errorf("journal: record %d is not covered by the checkpoint of %d records", index, c.Size)
	}
	path, err := tlog.ProveRecord(int64(c.Size), int64(index), c.reader(dir))
	if err != nil {
		return nil, fmt.Errorf("journal: proving record %d: %w", index, err)
	}
	return formatProof(fmt.Sprintf("%s\nindex %d\n", recordProofLine, index), path, c), nil
}

// CheckRecord checks that a proof is of this record, and signed by the verifier's key. It returns the record's index and the checkpoint.
func CheckRecord(proof, record []byte, verifier note.Verifier) (index uint64, c Checkpoint, err error) {
	lines, path, c, err := parseProof(proof, verifier)
	if err != nil {
		return 0, Checkpoint{}, err
	}
	if len(lines) == 3 && strings.HasPrefix(lines[1], "extra ") {
		lines = append(lines[:1], lines[2])
	}
	if len(lines) != 2 || lines[0] != recordProofLine {
		return 0, Checkpoint{}, errors.New("journal: this is no proof of a record")
	}
	if index, err = parseNumber(lines[1], "index "); err != nil {
		return 0, Checkpoint{}, err
	}
	if index >= c.Size {
		return 0, Checkpoint{}, fmt.Errorf("journal: the proof is of record %d, and its checkpoint is of %d records", index, c.Size)
	}
	if err := tlog.CheckRecord(path, int64(c.Size), c.Root, int64(index), tlog.RecordHash(record)); err != nil {
		return 0, Checkpoint{}, fmt.Errorf("journal: the proof of record %d does not hold: %w", index, err)
	}
	return index, c, nil
}

// ProveConsistency returns the proof that the records of an earlier checkpoint are the first ones of the latest in dir. Its form is the
// one in which a C2SP tlog-witness is asked to sign.
func ProveConsistency(dir string, verifier note.Verifier, earlier []byte) ([]byte, error) {
	c, err := ReadCheckpoint(dir, verifier)
	if err != nil {
		return nil, err
	}
	old, err := OpenCheckpoint(earlier, verifier)
	if err != nil {
		return nil, err
	}
	if err := c.holds(dir, old); err != nil {
		return nil, err
	}
	return c.ProveSince(dir, old.Size)
}

// ProveSince returns the proof, from the tiles in dir, that c is of the first old records and those after them: what is sent to a C2SP
// tlog-witness that has cosigned as many.
func (c Checkpoint) ProveSince(dir string, old uint64) ([]byte, error) {
	if old > c.Size {
		return nil, fmt.Errorf("journal: the checkpoint of %d records cannot follow one of %d", c.Size, old)
	}
	var path tlog.TreeProof
	if old > 0 && old < c.Size {
		var err error
		if path, err = tlog.ProveTree(int64(c.Size), int64(old), c.reader(dir)); err != nil {
			return nil, fmt.Errorf("journal: proving that %d records are the first of %d: %w", old, c.Size, err)
		}
	}
	return formatProof(fmt.Sprintf("old %d\n", old), path, c), nil
}

// CheckConsistency checks that a proof leads from an earlier checkpoint to a later one, which it returns.
func CheckConsistency(proof, earlier []byte, verifier note.Verifier) (Checkpoint, error) {
	old, err := OpenCheckpoint(earlier, verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	lines, path, c, err := parseProof(proof, verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(lines) != 1 {
		return Checkpoint{}, errors.New("journal: this is no proof of consistency")
	}
	size, err := parseNumber(lines[0], "old ")
	if err != nil {
		return Checkpoint{}, err
	}
	holds := false
	switch {
	case size != old.Size || size > c.Size:
	case size == 0:
		holds = old.Root == emptyRoot && len(path) == 0
	case size == c.Size:
		holds = old.Root == c.Root && len(path) == 0
	default:
		holds = tlog.CheckTree(tlog.TreeProof(path), int64(c.Size), c.Root, int64(size), old.Root) == nil
	}
	if !holds {
		return Checkpoint{}, fmt.Errorf("journal: the proof does not lead from the checkpoint of %d records to that of %d", old.Size, c.Size)
	}
	return c, nil
}

func formatProof[H ~[]tlog.Hash](head string, path H, c Checkpoint) []byte {
	out := []byte(head)
	for _, h := range path {
		out = base64.StdEncoding.AppendEncode(out, h[:])
		out = append(out, '\n')
	}
	out = append(out, '\n')
	return append(out, c.Note...)
}

// parseProof takes a proof apart: the lines before the hashes, the hashes, and the checkpoint.
func parseProof(proof []byte, verifier note.Verifier) (lines []string, path []tlog.Hash, c Checkpoint, err error) {
	head, signed, found := bytes.Cut(proof, []byte("\n\n"))
	if !found {
		return nil, nil, Checkpoint{}, errors.New("journal: the proof has no checkpoint")
	}
	if c, err = OpenCheckpoint(signed, verifier); err != nil {
		return nil, nil, Checkpoint{}, err
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		if strings.Contains(line, " ") || line == recordProofLine {
			if len(path) > 0 || len(lines) == 3 {
				return nil, nil, Checkpoint{}, errors.New("journal: the proof's lines are out of order")
			}
			lines = append(lines, line)
			continue
		}
		h, err := tlog.ParseHash(line)
		// Base64 has more than one way to write a hash; a proof has one.
		if err != nil || len(path) == maxProof || h.String() != line {
			return nil, nil, Checkpoint{}, fmt.Errorf("journal: the proof's line %q is no hash", line)
		}
		path = append(path, h)
	}
	return lines, path, c, nil
}

func parseNumber(line, prefix string) (uint64, error) {
	text, ok := strings.CutPrefix(line, prefix)
	n, err := strconv.ParseUint(text, 10, 63)
	if !ok || err != nil || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("journal: the proof's line %q should be %q and a number", line, prefix)
	}
	return n, nil
}
