package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// VerifyOptions say what Verify does besides verifying. All fields may be zero.
type VerifyOptions struct {
	// Known are checkpoints of this journal that were kept elsewhere. Each must be signed, and of this journal's first records.
	Known [][]byte
	// Since, if not nil, is a signed checkpoint of this journal up to which it was verified before. Only the records from its size on are
	// read and hashed. That those before are still the ones that it was signed for is proved by the tiles; what is on disk of them is not
	// looked at, so damage among them is not found.
	Since []byte
	// Each, if not nil, is given every record that is verified so far by its checksum only. An error of it ends the verification. What
	// was given is proved when Verify returns without an error.
	Each func(Record) error
	// Progress, if not nil, is told from time to time how many records were read, of how many that the checkpoint covers.
	Progress func(done, of uint64)
}

// Report is what Verify found.
type Report struct {
	// Checkpoint is the checkpoint that everything was compared with.
	Checkpoint Checkpoint
	// First is the index of the first record that is there; those before were deleted, and Pruned is the record that says so.
	First  uint64
	Pruned *Pruned
	// From is the index of the first record that was read: First, or the size of VerifyOptions.Since if that is more.
	From uint64
	// Segments and Bytes are how much was read, which begins with the segment that holds record From.
	Segments int
	Bytes    int64
	// Behind is the number of records that are whole and not yet covered by the checkpoint. In a journal that was closed it is 0.
	Behind uint64
	// Torn says that the last block is not whole: the journal is open and was being written to, or a crash cut it short. Opening the
	// journal decides which records of it count.
	Torn bool
}

// Verify recomputes all of a journal and compares it with its signed checkpoint. It trusts nothing in dir, only the verifier's key, and
// writes nothing; the journal may be open elsewhere. Without an error, every record that the checkpoint covers is there as it was
// added, or was deleted when its time was over, which a record proves, and the tiles are those of the records. Where records are
// deleted while it reads, the error is a DeletedError, and says nothing against the journal.
func Verify(ctx context.Context, dir string, verifier note.Verifier, opts VerifyOptions) (Report, error) {
	firsts, c, err := beginning(dir, verifier)
	if err != nil {
		return Report{}, err
	}
	v := &verification{ctx: ctx, dir: dir, opts: opts, report: Report{Checkpoint: c, First: firsts[0], From: firsts[0]}, expect: []Checkpoint{c}}
	for _, signed := range opts.Known {
		known, err := OpenCheckpoint(signed, verifier)
		if err != nil {
			return v.report, fmt.Errorf("VerifyOptions.Known: %w", err)
		}
		// The journal may have grown since the checkpoint was read, and a witness may be ahead of what was on this disk then; but what a
		// checkpoint covers was durable before it was signed.
		v.expect = append(v.expect, known)
	}
	if opts.Since != nil {
		since, err := OpenCheckpoint(opts.Since, verifier)
		if err != nil {
			return v.report, fmt.Errorf("VerifyOptions.Since: %w", err)
		}
		if err := c.holds(dir, since); err != nil {
			return v.report, fmt.Errorf("VerifyOptions.Since: %w", err)
		}
		v.report.From = max(since.Size, firsts[0])
	}
	slices.SortFunc(v.expect, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return v.report, v.run(firsts)
}

// beginning returns where the segments begin, and a checkpoint that covers the record of the deletion of whatever was before them.
func beginning(dir string, verifier note.Verifier) ([]uint64, Checkpoint, error) {
	firsts, err := listSegments(dir)
	if err != nil && !errors.Is(err, ErrTampered) {
		err = fmt.Errorf("journal: %w", err)
	}
	if err != nil {
		return nil, Checkpoint{}, err
	}
	// In this order: a deletion is covered by a checkpoint before its first segment is gone.
	c, err := ReadCheckpoint(dir, verifier)
	if err == nil && len(firsts) == 0 {
		err = tampered("%s has a checkpoint and no segments", dir)
	}
	return firsts, c, err
}

type verification struct {
	ctx    context.Context //nolint:containedctx // of one call
	dir    string
	opts   VerifyOptions
	report Report
	tree   *tree
	expect []Checkpoint
	tile   []byte
	err    error
}

func (v *verification) run(firsts []uint64) error {
	if err := v.begin(); err != nil {
		return err
	}
	v.tree.full = v.compareTile
	for len(firsts) > 1 && firsts[1] <= v.report.From {
		firsts = firsts[1:]
	}
	var id *journalID
	next := firsts[0]
	for i, first := range firsts {
		if i > 0 && first != next {
			return tampered("%s: after record %d comes %s: a segment is missing", v.dir, next, segmentPath(v.dir, first))
		}
		s, err := openSegment(v.dir, first, id)
		if err != nil {
			return v.missing(first, err)
		}
		id = &s.head.id
		err = v.segment(s, i == len(firsts)-1)
		v.report.Segments++
		v.report.Bytes += s.offset
		next = s.next
		s.close()
		if err != nil {
			return err
		}
	}
	return v.end(next)
}

// missing says of a segment that is not there any more whether all from the beginning to it have gone since, as Prune does it.
func (v *verification) missing(first uint64, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	firsts, listErr := listSegments(v.dir)
	switch {
	case listErr != nil:
		return fmt.Errorf("journal: %w", listErr)
	case len(firsts) > 0 && firsts[0] > first:
		return &DeletedError{From: first, Before: firsts[0]}
	}
	return tampered("%s was removed", segmentPath(v.dir, first))
}

// begin takes the hashes below the first record that is read from the tiles, proved against the checkpoint.
func (v *verification) begin() error {
	v.tree = &tree{}
	if from, c := v.report.From, v.report.Checkpoint; from > 0 {
		if from > c.Size {
			return tampered("%s begins with record %d, and the checkpoint is of %d records", v.dir, from, c.Size)
		}
		var err error
		if v.tree, err = provenEdge(v.dir, from, c); err != nil {
			return err
		}
		for len(v.expect) > 0 && v.expect[0].Size < from {
			if err := c.holds(v.dir, v.expect[0]); err != nil {
				return err
			}
			v.expect = v.expect[1:]
		}
	}
	return v.compare()
}

// compare compares the tree with the checkpoints of its size.
func (v *verification) compare() error {
	for len(v.expect) > 0 && v.expect[0].Size == v.tree.size {
		if v.tree.root() != v.expect[0].Root {
			return tampered("%s: the first %d records do not hash to the signed checkpoint", v.dir, v.tree.size)
		}
		if v.tree.size == v.report.Checkpoint.Size {
			for _, p := range v.tree.partial() {
				v.compareTile(p)
			}
		}
		v.expect = v.expect[1:]
	}
	return v.err
}

func (v *verification) segment(s *scanner, last bool) error {
	signed := v.report.Checkpoint.Size
	for {
		h, body, err := s.block(v.report.From)
		switch {
		case errors.Is(err, io.EOF) && s.sealed && s.zeros && !last:
			return s.corrupt(0, s.next, "something follows the segment's seal")
		case errors.Is(err, io.EOF) && (last || s.sealed):
			return nil
		case errors.Is(err, io.EOF):
			return s.corrupt(0, s.next, "the segment is not the last and has no seal at its end")
		case err != nil && last && s.next >= signed && len(v.expect) == 0 && errors.Is(err, ErrTampered):
			// Looked at more than once, since a journal that is open may be writing just there.
			for try := 0; try < 3 && !v.report.Torn; try++ {
				v.report.Torn = s.torn(err) == nil
			}
			if !v.report.Torn {
				return err
			}
			return nil
		case err != nil:
			return err
		}
		if err := v.block(h, body); err != nil {
			return err
		}
	}
}

func (v *verification) block(h block, body []byte) error {
	if body == nil {
		return nil // before Since
	}
	for h.first < v.tree.size {
		_, body = nextLeaf(body)
		h.first++
		h.count--
	}
	signed := v.report.Checkpoint.Size
	// stop is the size at which there is something to compare, or more than any.
	stop := v.stop()
	for index := h.first; len(body) > 0; index++ {
		var leaf []byte
		leaf, body = nextLeaf(body)
		v.tree.add(hashLeaf(leaf))
		if index < signed {
			if err := v.record(index, leaf[1:]); err != nil {
				return err
			}
		} else {
			v.report.Behind++
		}
		if index+1 == stop {
			if err := v.compare(); err != nil {
				return err
			}
			stop = v.stop()
		}
	}
	return v.err
}

// stop returns the size of the next checkpoint to compare with, or 0 if there is none.
func (v *verification) stop() uint64 {
	if len(v.expect) == 0 {
		return 0
	}
	return v.expect[0].Size
}

func (v *verification) record(index uint64, data []byte) error {
	if isOwn(data) {
		if p, ok := ParsePruned(data); ok {
			v.report.Pruned = &p
		}
	}
	if v.opts.Each != nil {
		if err := v.opts.Each(Record{index, data}); err != nil {
			return err
		}
	}
	if index%(1<<16) == 0 {
		if v.opts.Progress != nil {
			v.opts.Progress(index, v.report.Checkpoint.Size)
		}
		return v.ctx.Err()
	}
	return nil
}

// compareTile compares a tile on disk with what it should be. Tiles that the checkpoint does not cover may not be there yet.
func (v *verification) compareTile(t tile) {
	if (t.n+1)<<(tileHeight*(t.level+1)) > v.report.Checkpoint.Size && len(t.hashes) == tileWidth || v.err != nil {
		return
	}
	var err error
	if v.tile, err = readTile(v.tile[:0], v.dir, t.level, t.n, len(t.hashes)); err != nil {
		v.err = fmt.Errorf("journal: the tiles: %w", err)
		return
	}
	for i := range t.hashes {
		if tlog.Hash(v.tile[i*tlog.HashSize:]) != t.hashes[i] {
			v.err = tampered("%s is not the hashes of the records", tilePath(v.dir, t.level, t.n, len(t.hashes)))
			return
		}
	}
}

// end takes the index at which the last segment ends: with Since, the tree can be ahead of it.
func (v *verification) end(next uint64) error {
	if len(v.expect) > 0 || next < v.tree.size {
		counted := v.tree.size
		if len(v.expect) > 0 {
			counted = v.expect[len(v.expect)-1].Size
		}
		return tampered("%s has %d records, and a signed checkpoint counts %d", v.dir, next, counted)
	}
	if err := v.deleted(); err != nil {
		return err
	}
	if v.opts.Progress != nil {
		v.opts.Progress(v.report.Checkpoint.Size, v.report.Checkpoint.Size)
	}
	return nil
}

// deleted checks that a record says why the journal does not begin with record 0.
func (v *verification) deleted() error {
	first := v.report.First
	if first == 0 {
		return nil
	}
	if (v.report.Pruned == nil || v.report.Pruned.Before < first) && v.report.From > first {
		if err := v.findPruned(); err != nil {
			return err
		}
	}
	p := v.report.Pruned
	if p == nil || p.Before < first {
		return tampered("%s begins with record %d, and no record says that those before were deleted", v.dir, first)
	}
	before, err := provenEdge(v.dir, p.Before, v.report.Checkpoint)
	if err != nil {
		return err
	}
	if before.root() != p.Root {
		return tampered("%s: the record of the last deletion is not of the records before %d", v.dir, p.Before)
	}
	return nil
}

// findPruned finds the record of the last deletion among those before Since, and proves it against the checkpoint.
func (v *verification) findPruned() error {
	index, p, err := findPruned(v.dir, v.report.First, v.report.From)
	if err != nil || p == nil {
		return err
	}
	hashes, err := v.report.Checkpoint.reader(v.dir).ReadHashes([]int64{tlog.StoredHashIndex(0, int64(index))})
	if err != nil {
		return fmt.Errorf("journal: the tiles at record %d: %w", index, err)
	}
	for r, err := range Records(v.dir, index, index+1) {
		if err != nil {
			return err
		}
		if tlog.RecordHash(r.Data) != hashes[0] {
			return tampered("%s: record %d, of a deletion, is not the one that was signed", v.dir, index)
		}
	}
	v.report.Pruned = p
	return nil
}

var _ tlog.TileReader = tiles("")
