package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/calls"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

var verifyCommand = command{
	name: "verify", args: "DIR -key FILE [-since FILE] [-known FILE ...]",
	does: "prove that a journal is whole, and list intents without an outcome",
	help: `
Reads a journal in full, hashes it anew and compares it with its signed checkpoint. Nothing on the disk is trusted but what the key
signed. Lists the transactions that have an intent and no outcome.

  grpcguard audit verify /var/lib/ledger/audit -key audit.vkey -known monday.checkpoint

A checkpoint that was kept elsewhere, given with -known, shows a journal that was rolled back or rewritten by who holds its signing key;
a copy of DIR/checkpoint is one. With -since only what came after a checkpoint is read: what came before is as it was when that
checkpoint was verified, as far as hashes go, but whether it is still on the disk is not looked at.

A journal that a service has open has open intents, those of the calls that were under way when the checkpoint was made; their age
tells them from those that a crash left. The exit status is 3 if there are any, or outcomes whose calls have no intent, and 0 with
-open-ok if there are only open intents.`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		v := &verification{program: p}
		v.source.register(fs)
		fs.StringVar(&v.since, "since", "", "a `FILE` with a signed checkpoint of this journal; only records after it are read")
		fs.Var(&v.known, "known", "a `FILE` with a signed checkpoint that was kept elsewhere; may be given more than once")
		fs.BoolVar(&v.openOK, "open-ok", false, "open intents are no reason for exit status 3")
		fs.BoolVar(&v.progress, "progress", false, "tell the progress on standard error even if that is no terminal")
		return v.run
	},
}

// verification is one run of verify.
type verification struct {
	*program

	source   source
	since    string
	known    files
	openOK   bool
	progress bool

	from   uint64 // the size of the checkpoint of -since
	counts map[audit.Type]uint64
	calls  calls.Tracker
	pruned *uint64 // the index of the last record of a deletion, if it was read
}

func (v *verification) run(ctx context.Context, args []string) error {
	if err := v.source.open(args); err != nil {
		return err
	}
	opts := journal.VerifyOptions{Each: v.each, Progress: v.teller(v.progress)}
	if err := v.source.expect(&opts, v.since, v.known); err != nil {
		return err
	}
	if opts.Since != nil {
		c, err := journal.OpenCheckpoint(opts.Since, v.source.verifier)
		if err != nil {
			return err
		}
		v.from = c.Size
	}
	began := v.now()
	for {
		v.counts, v.calls, v.pruned = make(map[audit.Type]uint64), calls.Tracker{}, nil
		report, err := journal.Verify(ctx, v.source.dir, v.source.verifier, opts)
		var gone *journal.DeletedError
		switch {
		case err == nil:
			return v.report(report, v.now().Sub(began))
		case !errors.As(err, &gone):
			return notGood(ctx, err)
		}
		fmt.Fprintf(v.stderr, "note: the service deleted the records before %d while they were read; beginning again\n", gone.Before)
	}
}

// expect reads the checkpoints that were given.
func (s *source) expect(opts *journal.VerifyOptions, since string, known files) error {
	for _, path := range known {
		c, err := s.readCheckpoint("-known", path)
		if err != nil {
			return err
		}
		opts.Known = append(opts.Known, c.Note)
	}
	if since != "" {
		c, err := s.readCheckpoint("-since", since)
		if err != nil {
			return err
		}
		opts.Since = c.Note
	}
	return nil
}

// notGood says that a journal is not, unless it was not read to its end.
func notGood(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; nothing is proved")
	}
	if gone := (*journal.DeletedError)(nil); errors.As(err, &gone) {
		return fmt.Errorf("the service deleted the records before %d while they were read; nothing is proved, run it again", gone.Before)
	}
	return fmt.Errorf("NOT GOOD: %w", err)
}

func (v *verification) each(r journal.Record) error {
	id, t := entry.Head(r)
	v.counts[t]++
	switch t {
	case audit.TypeIntent, audit.TypeAnswered, audit.TypeOutcome:
		v.calls.Add(id, t, r)
	case entry.Journal:
		index := r.Index
		v.pruned = &index
	default:
	}
	return nil
}

// teller returns a function that tells progress each second, if somebody wants to know.
func (p *program) teller(always bool) func(done, of uint64) {
	terminal := isTerminal(p.stderr)
	if !always && !terminal {
		return nil
	}
	last, told := p.now(), false
	return func(done, of uint64) {
		now := p.now()
		if now.Sub(last) < time.Second && (done < of || !told) {
			return
		}
		last, told = now, true
		percent := uint64(100)
		if of > 0 {
			percent = done * 100 / of
		}
		line := fmt.Sprintf("%d of %d records, %d%%", done, of, percent)
		if terminal {
			line = "\r" + line
		}
		if !terminal || done == of {
			line += "\n"
		}
		fmt.Fprint(p.stderr, line)
	}
}

// report prints what was found, and says whether there is something to look at.
func (v *verification) report(r journal.Report, took time.Duration) error {
	c := show.NewTitled(v.stdout)
	c.Linef("journal", "%s", v.source.verifier.Name())
	c.Linef("checkpoint", "%s, root %s", show.Count(r.Checkpoint.Size, "record"), r.Checkpoint.Root)
	var read uint64
	for _, n := range v.counts {
		read += n
	}
	if v.from > 0 {
		c.Linef("since", "a checkpoint of %s; what it covers was not read", show.Count(v.from, "record"))
	}
	c.Linef("read", "%s in %s, %s%s", show.Count(read, "record"), show.Count(r.Segments, "segment"), show.Count(r.Bytes, "byte"), speed(read, took))
	if r.Pruned != nil {
		says := "a record"
		if v.pruned != nil {
			says = fmt.Sprintf("record %d", *v.pruned)
		}
		c.Linef("deleted", "the records before %d were deleted when their time was over, as %s says:\nnone was written after %s, they were to be kept for %s, and were deleted at %s",
			r.Pruned.Before, says, show.Time(r.Pruned.Newest), time.Duration(r.Pruned.Retention)*time.Second, show.Time(r.Pruned.At))
	}
	if len(v.known) > 0 {
		c.Linef("known", "%s kept elsewhere: this journal holds what they cover", show.Count(len(v.known), "checkpoint"))
	}
	if r.Behind > 0 {
		c.Linef("not covered", "%s behind the checkpoint, whole, and neither proved nor counted here", show.Count(r.Behind, "record"))
	}
	if r.Torn {
		c.Linef("torn", "the last block is not whole: the service was writing it, or a crash cut it short. Nobody was told that it is kept")
	}
	c.Linef("records", "%s", v.types())
	findings, err := v.findings(c, r)
	if err != nil {
		return err
	}
	scope := "every record that the checkpoint covers is as it was added"
	switch {
	case v.from > 0:
		scope = "every record from " + fmt.Sprint(v.from) + " on that the checkpoint covers is as it was added"
	case r.First > 0:
		scope += ", or was deleted when its time was over"
	}
	c.Linef("result", "GOOD: %s", scope)
	if err := c.Err(); err != nil {
		return err
	}
	if findings {
		return errFindings
	}
	return nil
}

func speed(n uint64, took time.Duration) string {
	if took < time.Second {
		return ""
	}
	return fmt.Sprintf(" in %s, %d records a second", took.Round(time.Second/10), uint64(float64(n)/took.Seconds()))
}

// types lists how many records there are of each type, those that every reader knows first.
func (v *verification) types() string {
	if len(v.counts) == 0 {
		return "none"
	}
	var parts []string
	for _, t := range slices.Sorted(maps.Keys(v.counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", show.Cell(string(t)), v.counts[t]))
	}
	return strings.Join(parts, ", ")
}

// findings prints what the records leave open.
func (v *verification) findings(c *show.Titled, r journal.Report) (bool, error) {
	found := false
	if n := v.calls.Orphans; n > 0 {
		switch {
		case v.from > 0:
			c.Linef("earlier", "outcomes of calls whose intents are not among what was read: %d", n)
		case r.First > 0:
			c.Linef("earlier", "outcomes of calls whose intents are not there, and may be among what was deleted: %d", n)
		default:
			found = true
			c.Linef("no intent", "FINDING: outcomes of calls that have no intent: %d, the first is record %d", n, v.calls.FirstOrphan)
		}
	}
	open := v.calls.Open()
	if len(open) == 0 {
		c.Linef("open", "no intent is without an outcome")
		return found, c.Err()
	}
	c.Linef("open", "calls that were still open when the checkpoint was made, with intents and no outcome: %d", len(open))
	if err := c.Err(); err != nil {
		return found, err
	}
	return found || !v.openOK, v.openTable(open)
}

func (v *verification) openTable(open []*calls.Call) error {
	titles := []string{"CALL", "RECORDS", "INTENTS", "FIRST INTENT", "AGE", "CALLER", "METHOD", "TRANSACTION", "AMOUNT", "ANSWERED"}
	var rows [][]string
	now := v.now()
	for _, c := range open {
		r, err := c.Intent()
		if err != nil {
			return fmt.Errorf("record %d is an intent and cannot be read: %w", c.First, err)
		}
		records := fmt.Sprint(c.First)
		if c.Last > c.First {
			records = fmt.Sprintf("%d..%d", c.First, c.Last)
		}
		answered := "no"
		if c.Answered {
			answered = "yes"
		}
		age := ""
		if !r.Time.IsZero() {
			age = now.Sub(r.Time).Round(time.Second).String()
		}
		rows = append(rows, []string{c.ID(), records, fmt.Sprint(c.Intents), show.Time(r.Time), age, r.Caller, r.Method, r.Transaction.ID, show.Amount(&r.Transaction), answered})
	}
	return show.WriteTable(v.stdout, titles, rows)
}
