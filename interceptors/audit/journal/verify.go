package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// VerifyOptions say what Verify does besides verifying. All fields may be zero.
type VerifyOptions struct {
	// Known are checkpoints of this journal that were kept elsewhere. Each must be signed, and of this journal's first records.
	Known [][]byte
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
	// Segments and Bytes are how much was read.
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
// added, or was deleted when its time was over, which a record proves, and the tiles are those of the records.
func Verify(ctx context.Context, dir string, verifier note.Verifier, opts VerifyOptions) (Report, error) {
	c, err := ReadCheckpoint(dir, verifier)
	if err != nil {
		return Report{}, err
	}
	v := &verification{ctx: ctx, dir: dir, opts: opts, report: Report{Checkpoint: c}, expect: []Checkpoint{c}}
	for _, signed := range opts.Known {
		known, err := OpenCheckpoint(signed, verifier)
		if err != nil {
			return v.report, fmt.Errorf("VerifyOptions.Known: %w", err)
		}
		// The journal may have grown since the checkpoint was read, and a witness may be ahead of what was on this disk then; but what a
		// checkpoint covers was durable before it was signed.
		v.expect = append(v.expect, known)
	}
	slices.SortFunc(v.expect, func(a, b Checkpoint) int { return int(int64(a.Size) - int64(b.Size)) })
	return v.report, v.run()
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

func (v *verification) run() error {
	firsts, err := listSegments(v.dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if len(firsts) == 0 {
		return tampered("%s has a checkpoint and no segments", v.dir)
	}
	if err := v.begin(firsts[0]); err != nil {
		return err
	}
	v.tree.full = v.compareTile
	var id *journalID
	for i, first := range firsts {
		if first != v.tree.size {
			return tampered("%s: after record %d comes %s: a segment is missing", v.dir, v.tree.size, segmentPath(v.dir, first))
		}
		s, err := openSegment(v.dir, first, id)
		if err != nil {
			return err
		}
		id = &s.head.id
		err = v.segment(s, i == len(firsts)-1)
		v.report.Segments++
		v.report.Bytes += s.offset
		s.close()
		if err != nil {
			return err
		}
	}
	return v.end()
}

// begin takes the hashes below the first record from the tiles, proved against the checkpoint.
func (v *verification) begin(first uint64) error {
	v.report.First = first
	v.tree = &tree{}
	if first > 0 {
		c := v.report.Checkpoint
		if first > c.Size {
			return tampered("%s begins with record %d, and the checkpoint is of %d records", v.dir, first, c.Size)
		}
		var err error
		if v.tree, err = provenEdge(v.dir, first, c); err != nil {
			return err
		}
		for len(v.expect) > 0 && v.expect[0].Size < first {
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
		h, body, err := s.block(0)
		switch {
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
	signed := v.report.Checkpoint.Size
	for index := h.first; len(body) > 0; index++ {
		var leaf []byte
		leaf, body = nextLeaf(body)
		v.tree.add(hashLeaf(leaf))
		if v.err != nil {
			return v.err
		}
		if index < signed {
			if err := v.record(Record{index, leaf[1:]}); err != nil {
				return err
			}
		} else {
			v.report.Behind++
		}
		if len(v.expect) > 0 && v.expect[0].Size == v.tree.size {
			if err := v.compare(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verification) record(r Record) error {
	if isOwn(r.Data) {
		if p, ok := ParsePruned(r.Data); ok {
			v.report.Pruned = &p
		}
	}
	if v.opts.Each != nil {
		if err := v.opts.Each(r); err != nil {
			return err
		}
	}
	if r.Index%(1<<16) == 0 {
		if v.opts.Progress != nil {
			v.opts.Progress(r.Index, v.report.Checkpoint.Size)
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
	data, err := readTile(v.dir, t.level, t.n, len(t.hashes))
	if err != nil {
		v.err = fmt.Errorf("journal: the tiles: %w", err)
		return
	}
	v.tile = v.tile[:0]
	for i := range t.hashes {
		v.tile = append(v.tile, t.hashes[i][:]...)
	}
	if !bytes.Equal(data, v.tile) {
		v.err = tampered("%s is not the hashes of the records", tilePath(v.dir, t.level, t.n, len(t.hashes)))
	}
}

func (v *verification) end() error {
	if len(v.expect) > 0 {
		return tampered("%s has %d records, and a signed checkpoint counts %d", v.dir, v.tree.size, v.expect[len(v.expect)-1].Size)
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
	first, p := v.report.First, v.report.Pruned
	if first == 0 {
		return nil
	}
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

var _ tlog.TileReader = tiles("")
