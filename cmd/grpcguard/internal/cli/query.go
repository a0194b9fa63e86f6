package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/filter"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
)

var queryCommand = command{
	name: "query", args: "DIR -key FILE [FILTERS] [-limit N] [-format table|json|csv]",
	does: "find records by time, caller, method, account, transaction, outcome",
	help: `
Prints the records that fulfil all filters, in the order in which they were added. Only records that the signed checkpoint covers are
looked at, and of each its checksum is compared. That finds decay and not forgery: run verify for proof.

  grpcguard audit query /var/lib/ledger/audit -key audit.vkey -account DE1234 -from -24h -outcome denied

A table leaves out what is rare and shortens what is long; JSON and CSV have all of a record. What callers chose is quoted or escaped
where it could do harm: in a table everything but plain ASCII, in CSV what a spreadsheet would take for a formula, with an apostrophe
before it.`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		q := &query{program: p}
		q.source.register(fs)
		q.flags.Register(fs)
		fs.Uint64Var(&q.limit, "limit", 0, "stop after `N` records; 0 is no limit")
		fs.StringVar(&q.format, "format", show.FormatTable, "`FORM` of the output: table, json (one record a line) or csv")
		return q.run
	},
}

// query is one run of query.
type query struct {
	*program

	source source
	flags  filter.Flags
	limit  uint64
	format string
}

// selection is what query and tail share: a matcher and a printer.
func (q *query) selection(args []string) (*filter.Matcher, error) {
	if err := show.CheckFormat(q.format, show.FormatTable, show.FormatJSON, show.FormatCSV); err != nil {
		return nil, usageError{err}
	}
	f, err := q.flags.Filter(q.now())
	if err != nil {
		return nil, usageError{err}
	}
	if err := q.source.open(args); err != nil {
		return nil, err
	}
	m, err := f.Compile()
	if err != nil {
		return nil, usageError{err}
	}
	return m, nil
}

func (q *query) run(ctx context.Context, args []string) error {
	m, err := q.selection(args)
	if err != nil {
		return err
	}
	c, err := q.source.checkpoint()
	if err != nil {
		return err
	}
	first, err := q.source.begins(q.program)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(q.stdout, 1<<16)
	p, err := show.NewPrinter(out, q.format)
	if err != nil {
		return err
	}
	err = q.print(ctx, p, m, first, c.Size)
	return errors.Join(err, out.Flush())
}

func (q *query) print(ctx context.Context, p *show.Printer, m *filter.Matcher, from, to uint64) error {
	var printed uint64
	for r, err := range entry.Read(q.source.dir, from, to) {
		if err != nil {
			return err
		}
		if r.Index%1024 == 0 && ctx.Err() != nil {
			return errors.New("interrupted")
		}
		e, ok := m.Match(r)
		if !ok {
			continue
		}
		if q.limit > 0 && printed == q.limit {
			fmt.Fprintf(q.stderr, "note: there are more than %d; record %d is the next\n", q.limit, e.Index)
			return nil
		}
		if err := p.Print(&e); err != nil {
			return err
		}
		printed++
	}
	return nil
}
