package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/filter"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

var tailCommand = command{
	name: "tail", args: "DIR -key FILE [-f] [-n N] [FILTERS] [-format table|json|csv]",
	does: "print the last records, and with -f those that come",
	help: `
Prints the last records that fulfil all filters. With -f it goes on with those that are added, as soon as a checkpoint covers them,
and each new checkpoint must be proved to continue the one before: if the journal is rolled back or replaced, tail says so and ends
with exit status 1. An interrupt ends it with 0.

  grpcguard audit tail /var/lib/ledger/audit -key audit.vkey -f -outcome denied`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		t := &tail{query: query{program: p}}
		t.source.register(fs)
		t.flags.Register(fs)
		fs.BoolVar(&t.follow, "f", false, "go on with records as they are added")
		fs.IntVar(&t.n, "n", 10, "how `MANY` of the last records")
		fs.StringVar(&t.format, "format", show.FormatTable, "`FORM` of the output: table, json (one record a line) or csv")
		return t.run
	},
}

// tail is one run of tail.
type tail struct {
	query

	follow bool
	n      int
}

func (t *tail) run(ctx context.Context, args []string) error {
	if t.n < 0 {
		return usage("-n is %d", t.n)
	}
	m, err := t.selection(args)
	if err != nil {
		return err
	}
	c, err := t.source.checkpoint()
	if err != nil {
		return err
	}
	last, err := t.last(ctx, m, c.Size)
	if err != nil {
		return err
	}
	p, err := show.NewPrinter(t.stdout, t.format)
	if err != nil {
		return err
	}
	for i := range last {
		if err := p.Print(&last[i]); err != nil {
			return err
		}
	}
	if !t.follow {
		return nil
	}
	return t.following(ctx, p, m, c)
}

// last returns the last n records that match. It looks at the end of the journal first, and further back as long as there are too few.
func (t *tail) last(ctx context.Context, m *filter.Matcher, size uint64) ([]entry.Entry, error) {
	first, err := entry.First(t.source.dir)
	if err != nil {
		return nil, err
	}
	var last []entry.Entry
	step := max(uint64(t.n), 4096)
	for to := size; to > first && len(last) < t.n && ctx.Err() == nil; step *= 2 {
		from := max(first, to-min(to, step))
		var found []entry.Entry
		for r, err := range entry.Read(t.source.dir, from, to) {
			if err != nil {
				return nil, err
			}
			e, ok := m.Match(r)
			if !ok {
				continue
			}
			if len(found)-t.n > t.n {
				found = append(found[:0], found[len(found)-t.n:]...)
			}
			e.Data = bytes.Clone(e.Data)
			found = append(found, e)
		}
		last = append(found, last...)
		to = from
	}
	return last[max(0, len(last)-t.n):], nil
}

// following prints records as checkpoints come to cover them.
func (t *tail) following(ctx context.Context, p *show.Printer, m *filter.Matcher, c journal.Checkpoint) error {
	tick := time.NewTicker(t.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		next, err := t.source.after(c)
		if err != nil {
			return err
		}
		if next.Size == c.Size {
			continue
		}
		for r, err := range entry.Read(t.source.dir, c.Size, next.Size) {
			if err != nil {
				return err
			}
			if e, ok := m.Match(r); ok {
				if err := p.Print(&e); err != nil {
					return err
				}
			}
		}
		c = next
	}
}

// after returns the latest checkpoint, proved to continue an earlier one.
func (s *source) after(c journal.Checkpoint) (journal.Checkpoint, error) {
	next, err := s.checkpoint()
	switch {
	case err != nil:
		return next, err
	case bytes.Equal(next.Note, c.Note):
		return c, nil
	case next.Size < c.Size:
		return next, fmt.Errorf("NOT GOOD: the checkpoint went back from %d records to %d: the journal was rolled back", c.Size, next.Size)
	}
	proof, err := journal.ProveConsistency(s.dir, s.verifier, c.Note)
	if err == nil {
		next, err = journal.CheckConsistency(proof, c.Note, s.verifier)
	}
	if err != nil {
		return next, fmt.Errorf("NOT GOOD: the checkpoint of %d records does not continue that of %d which was here before: the journal was replaced or rewritten: %w", next.Size, c.Size, err)
	}
	return next, nil
}
