package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/filter"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/manifest"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

const formatJSONL = "jsonl"

var exportCommand = command{
	name: "export", args: "DIR -key FILE [FILTERS] -out FILE [-format jsonl|csv] [-since FILE], or DIR -key FILE -check FILE.manifest.json",
	does: "write records to a file with counts, sums and root, and check such a file",
	help: `
Verifies the journal and writes the records that fulfil all filters to a file, and beside it FILE.manifest.json: which indexes were
looked at and which filters applied, how many records the file has, of which types and outcomes, between which times, the sums of
amounts by currency, the SHA-256 of the file, and the signed checkpoint. With -since only records after a checkpoint are looked at.

  grpcguard audit export /var/lib/ledger/audit -key audit.vkey -from 2026-11-01 -to 2026-12-01 -out november.jsonl
  grpcguard audit export /var/lib/ledger/audit -key audit.vkey -check november.jsonl.manifest.json

-check does it again from the journal, which may have grown but must hold the manifest's checkpoint, and names each difference from the
manifest and from the file, which lies beside it.

Intents are summed apart from outcomes, and of these those that ended with ok; amounts in minor units apart from others; amounts of
which the record has an HMAC only are counted as sealed. The outcome of a stream with several transactions has no amount: what each was
to be is in its intents. The values given to filters are written into the manifest, the sealed form of a sensitive one as well.`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		e := &export{program: p}
		e.source.register(fs)
		e.flags.Register(fs)
		fs.StringVar(&e.out, "out", "", "the `FILE` to write; it must not be there yet")
		fs.StringVar(&e.format, "format", formatJSONL, "`FORM` of the file: jsonl or csv")
		fs.StringVar(&e.since, "since", "", "a `FILE` with a signed checkpoint of this journal; only records after it are verified and exported")
		fs.StringVar(&e.check, "check", "", "the `MANIFEST` of an export that was made before, to check it")
		fs.BoolVar(&e.progress, "progress", false, "tell the progress on standard error even if that is no terminal")
		return func(ctx context.Context, args []string) error {
			if e.check != "" {
				return e.runCheck(ctx, fs, args)
			}
			return e.run(ctx, args)
		}
	},
}

// export is one run of export.
type export struct {
	*program

	source                    source
	flags                     filter.Flags
	out, format, since, check string
	progress                  bool
}

func (e *export) run(ctx context.Context, args []string) error {
	if e.out == "" {
		return usage("-out is missing: where should the export go?")
	}
	if err := show.CheckFormat(e.format, formatJSONL, show.FormatCSV); err != nil {
		return usageError{err}
	}
	f, err := e.flags.Filter(e.now())
	if err != nil {
		return usageError{err}
	}
	if err := e.source.open(args); err != nil {
		return err
	}
	var opts journal.VerifyOptions
	if err := e.source.expect(&opts, e.since, nil); err != nil {
		return err
	}
	manifestFile := e.out + ".manifest.json"
	for _, path := range []string{e.out, manifestFile} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already, and is not written over", path)
		}
	}
	// Under its name there is never a part of an export, nor one of a journal that turned out not to be good.
	partial := e.out + ".partial"
	file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(partial) }()
	m, err := e.collect(ctx, file, e.format, f, opts)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	m.File.Name = filepath.Base(e.out)
	text, err := m.Encode()
	if err != nil {
		return err
	}
	if err := writeNew(manifestFile, text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(partial, e.out); err != nil {
		return err
	}
	c := show.NewTitled(e.stdout)
	c.Linef("export", "%s, %d bytes", e.out, m.File.Bytes)
	c.Linef("manifest", "%s", manifestFile)
	e.summary(c, m)
	return c.Err()
}

// summary prints what an export holds.
func (e *export) summary(c *show.Titled, m *manifest.Manifest) {
	c.Linef("checkpoint", "%d records, root %s", m.Checkpoint.Size, m.Checkpoint.Root)
	c.Linef("records", "%d of those from %d to before %d", m.Count, m.Range.From, m.Range.To)
	c.Linef("intents", "%s", sums(&m.Intents))
	c.Linef("outcomes ok", "%s", sums(&m.OutcomesOK))
}

func sums(s *manifest.Sums) string {
	var out strings.Builder
	fmt.Fprint(&out, s.Count)
	for _, sum := range s.Sums {
		minor := ""
		if sum.MinorUnits {
			minor = " in minor units"
		}
		fmt.Fprintf(&out, "; %d of %s %s%s", sum.Count, sum.Amount, show.Cell(sum.Currency), minor)
	}
	for _, other := range []struct {
		n    uint64
		what string
	}{{s.Sealed, "sealed"}, {s.NoAmount, "without an amount"}, {s.Unreadable, "with an amount that is no number"}} {
		if other.n > 0 {
			fmt.Fprintf(&out, "; %d %s", other.n, other.what)
		}
	}
	return out.String()
}

// collect verifies the journal, writes what is meant to w in the same pass, and describes it.
func (e *export) collect(ctx context.Context, w io.Writer, format string, f filter.Filter, opts journal.VerifyOptions) (*manifest.Manifest, error) {
	return e.collectBelow(ctx, w, format, f, opts, ^uint64(0))
}

// collectBelow is collect of the records below an index.
func (e *export) collectBelow(ctx context.Context, w io.Writer, format string, f filter.Filter, opts journal.VerifyOptions, to uint64) (*manifest.Manifest, error) {
	match, err := f.Compile()
	if err != nil {
		return nil, usageError{err}
	}
	m := &manifest.Manifest{Form: manifest.Form, Journal: e.source.verifier.Name(), Filter: f, Since: string(opts.Since), File: manifest.File{Format: format}}
	out := &counted{w: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	if lines, ok := w.(*manifest.Lines); ok { // which wants lines as they are
		out.lines = lines
	}
	if format == formatJSONL {
		format = show.FormatJSON
	}
	printer, err := show.NewPrinter(out, format)
	if err != nil {
		return nil, err
	}
	opts.Progress = e.teller(e.progress)
	opts.Each = func(r journal.Record) error {
		if r.Index >= to {
			return nil
		}
		found, ok := match.Match(r)
		if !ok {
			return nil
		}
		m.Add(&found)
		return printer.Print(&found)
	}
	report, err := journal.Verify(ctx, e.source.dir, e.source.verifier, opts)
	if err != nil {
		return nil, notGood(ctx, err)
	}
	if err := out.w.Flush(); err != nil {
		return nil, err
	}
	m.End()
	m.Checkpoint = manifest.NewCheckpoint(report.Checkpoint)
	m.Range = manifest.Range{From: report.From, To: min(to, report.Checkpoint.Size)}
	m.File.Bytes, m.File.SHA256 = out.n, hex.EncodeToString(out.sum.Sum(nil))
	return m, nil
}

// counted counts and hashes what it passes on.
type counted struct {
	w     *bufio.Writer
	lines *manifest.Lines
	sum   hash.Hash
	n     int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	_, _ = c.sum.Write(b)
	if c.lines != nil {
		return c.lines.Write(b)
	}
	return c.w.Write(b)
}
