package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// ownPrefix is what the records begin with that the journal writes itself. Append refuses it, so what begins with it is the journal's.
var ownPrefix = []byte("grpcguard journal: pruned\n")

func isOwn(record []byte) bool { return bytes.HasPrefix(record, ownPrefix) }

// Pruned is what the record of a deletion says.
type Pruned struct {
	// Before is the index of the first record that was kept.
	Before uint64 `json:"before"`
	// Root is the RFC 6962 hash over the records before it.
	Root tlog.Hash `json:"root"`
	// Newest is a time after which none of the deleted records was written.
	Newest time.Time `json:"newest"`
	// Retention is the time that was declared for keeping records, in seconds.
	Retention int64 `json:"retention_seconds"`
	// At is when they were deleted.
	At time.Time `json:"at"`
}

// ParsePruned reads a record that Journal.Prune wrote. It is not ok for any other.
func ParsePruned(record []byte) (p Pruned, ok bool) {
	if !isOwn(record) {
		return Pruned{}, false
	}
	err := json.Unmarshal(record[len(ownPrefix):], &p)
	return p, err == nil
}

// Prune deletes finished segments all of whose records are older than Options.Retention, oldest first, and returns the index of the
// first record that is left. Before anything is deleted, a record that says so is durable and covered by a checkpoint. Tiles stay, so
// the proofs of all other records do as well. With nothing old enough it does nothing.
func (j *Journal) Prune(ctx context.Context) (first uint64, err error) {
	j.pruning.Lock()
	defer j.pruning.Unlock()
	p, err := j.prunable()
	if err != nil || p.Before == 0 {
		return p.Before, err
	}
	old := j.sealed.before(p.Before)
	if len(old) == 0 {
		return p.Before, nil
	}
	edge, err := provenEdge(j.dir, p.Before, j.Checkpoint())
	if err != nil {
		return 0, err
	}
	p.Root = edge.root()
	text, err := json.Marshal(p)
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	pending, err := j.begin(ctx, append(bytes.Clone(ownPrefix), text...))
	if err != nil {
		return 0, err
	}
	index, err := pending.Wait(ctx)
	if err != nil {
		return 0, err
	}
	if err := j.WaitCheckpoint(ctx, index+1); err != nil {
		return 0, err
	}
	// The records are no longer there to compute the tiles again.
	if err := j.syncTiles(index + 1); err != nil {
		return 0, fmt.Errorf("journal: making tiles durable: %w", err)
	}
	if err := replaceFile(j.dir, prunedFile, []byte(strconv.FormatUint(index, 10)+"\n")); err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	for _, s := range old {
		if err := j.sealed.remove(s, j.opts.remove); err != nil {
			return 0, fmt.Errorf("journal: %w", err)
		}
		if err := forgetTime(j.dir, s.first); err != nil {
			return 0, err
		}
	}
	if err := syncDir(filepath.Join(j.dir, segmentDir)); err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	return p.Before, nil
}

// prunable says what is old enough. A segment is as old as the one after it: nothing was added to it once that one was there. Where the
// clock was set back meanwhile, the latest time counts; where nothing signed says when, nothing is old.
func (j *Journal) prunable() (Pruned, error) {
	firsts, err := listSegments(j.dir)
	if err != nil {
		return Pruned{}, err
	}
	if len(firsts) == 0 {
		return Pruned{}, tampered("%s has no segments", j.dir)
	}
	now := j.opts.Now()
	var latest time.Time
	p := Pruned{Before: firsts[0], Retention: int64(j.opts.Retention / time.Second), At: now.UTC()}
	covered := j.Checkpoint().Size
	for _, first := range firsts {
		began, known, err := j.readTime(first)
		if err != nil {
			return Pruned{}, err
		}
		if began.After(latest) {
			latest = began
		}
		if first == firsts[0] {
			continue
		}
		if !known || latest.Add(j.opts.Retention).After(now) || first > covered {
			break
		}
		p.Before, p.Newest = first, latest.UTC()
	}
	return p, nil
}

// WaitCheckpoint waits until a checkpoint covers the first size records.
func (j *Journal) WaitCheckpoint(ctx context.Context, size uint64) error {
	for {
		j.mu.Lock()
		published := j.published
		j.mu.Unlock()
		if j.Checkpoint().Size >= size {
			return nil
		}
		select {
		case <-published:
		case <-j.failed:
			return fmt.Errorf("%w: %w", ErrFailed, j.Err())
		case <-j.ended:
			if j.Checkpoint().Size >= size {
				return nil
			}
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("journal: waiting for a checkpoint of %d records: %w", size, ctx.Err())
		}
	}
}

// checkPruned checks that a record says why the journal does not begin with record 0.
func (j *Journal) checkPruned(first uint64) error {
	if first == 0 {
		return nil
	}
	_, p, err := findPruned(j.dir, first, j.durable.Load())
	if err == nil && p == nil {
		err = tampered("%s begins with record %d, and no record says that those before were deleted", j.dir, first)
	}
	return err
}

// findPruned finds a record below index to that says that the records before first were deleted: the one that the hint names, or else
// the first one there is. It returns none if there is none.
func findPruned(dir string, first, to uint64) (index uint64, found *Pruned, err error) {
	from, end := first, to
	if hint, ok := readNumber(filepath.Join(dir, prunedFile)); ok && hint >= first && hint < to {
		from, end = hint, hint+1
	}
	for {
		for r, err := range Records(dir, from, end) {
			if err != nil {
				return 0, nil, err
			}
			if p, ok := ParsePruned(r.Data); ok && p.Before >= first {
				return r.Index, &p, nil
			}
		}
		if from == first && end == to {
			return 0, nil, nil
		}
		from, end = first, to // the hint was wrong
	}
}
