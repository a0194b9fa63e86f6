package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/manifest"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// runCheck makes an export once more, beside the one that is checked.
func (e *export) runCheck(ctx context.Context, fs *flag.FlagSet, args []string) error {
	var other string
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"key", "check", "progress"}, f.Name) {
			other = f.Name
		}
	})
	if other != "" {
		return usage("-%s: -check takes what was exported from the manifest", other)
	}
	if err := e.source.open(args); err != nil {
		return err
	}
	claimed, err := manifest.Read(e.check)
	if err != nil {
		return err
	}
	if err := show.CheckFormat(claimed.File.Format, formatJSONL, show.FormatCSV); err != nil {
		return fmt.Errorf("%s: %w", e.check, err)
	}
	signed, err := journal.OpenCheckpoint([]byte(claimed.Checkpoint.Note), e.source.verifier)
	if err != nil {
		return fmt.Errorf("NOT GOOD: %s: %w", e.check, err)
	}
	// A name that leads elsewhere would have another file checked than the one that lies there.
	if claimed.File.Name != filepath.Base(claimed.File.Name) {
		return fmt.Errorf("%s: the file's name %q is a path", e.check, claimed.File.Name)
	}
	path := filepath.Join(filepath.Dir(e.check), claimed.File.Name)
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	opts := journal.VerifyOptions{Known: [][]byte{signed.Note}}
	if claimed.Since != "" {
		opts.Since = []byte(claimed.Since)
	}
	lines := manifest.NewLines(file)
	computed, err := e.collectBelow(ctx, lines, claimed.File.Format, claimed.Filter, opts, signed.Size)
	if err != nil {
		return err
	}
	if err := lines.End(); err != nil {
		return err
	}
	if claimed.Range.From < computed.Range.From {
		return fmt.Errorf("NOT COMPLETE: the export begins with record %d and the journal with %d: the records between were deleted since, and cannot be compared",
			claimed.Range.From, computed.Range.From)
	}
	computed.File.Name = claimed.File.Name
	now := computed.Checkpoint.Size
	computed.Checkpoint = manifest.NewCheckpoint(signed)
	return e.verdict(path, now, claimed, computed, lines)
}

func (e *export) verdict(path string, now uint64, claimed, computed *manifest.Manifest, lines *manifest.Lines) error {
	differences := manifest.Compare(claimed, computed)
	if len(differences) == 0 && len(lines.Found) == 0 {
		c := show.NewTitled(e.stdout)
		c.Linef("export", "%s", path)
		e.summary(c, computed)
		c.Linef("filter", "%s", filterText(computed))
		c.Linef("journal", "has %d records now, and the first %d are those of the export's checkpoint", now, computed.Checkpoint.Size)
		c.Linef("result", "COMPLETE: the file has every record that the filter means, as it was added, and nothing else")
		return c.Err()
	}
	for _, d := range differences {
		fmt.Fprintf(e.stderr, "%s: %s\n", e.check, show.Line(d)) // A manifest may be anybody's.
	}
	for _, d := range lines.Found {
		fmt.Fprintf(e.stderr, "%s: %s\n", path, d)
	}
	if lines.More > 0 {
		fmt.Fprintf(e.stderr, "%s: and %d more\n", path, lines.More)
	}
	fmt.Fprintf(e.stderr, "grpcguard audit export: NOT COMPLETE: the export is not what the journal gives\n")
	return errBad
}

// filterText returns the filter as the manifest has it: what is complete is complete under it.
func filterText(m *manifest.Manifest) string {
	text, err := json.Marshal(m.Filter)
	if err != nil || string(text) == "{}" {
		return "none"
	}
	return show.Line(string(text))
}
