// Package manifest says of an export what it holds, so that whoever has the journal, or a later state of it, can tell whether it is
// complete.
package manifest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/filter"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// Form names the form of a manifest, and its version.
const Form = "grpcguard-audit-export@v1"

// Manifest describes an export.
type Manifest struct {
	Form string `json:"manifest"`
	// File is the export.
	File File `json:"file"`
	// Journal is the name of the journal's key, which is the log's origin.
	Journal string `json:"journal"`
	// Checkpoint is what the export was proved against.
	Checkpoint Checkpoint `json:"checkpoint"`
	// Since is the checkpoint, if one was given, whose records were verified before and are not part of the export.
	Since string `json:"since,omitempty"`
	// Range bounds the indexes of the records that were looked at: all of them, and no others.
	Range Range `json:"range"`
	// Filter is which of them are in the file.
	Filter filter.Filter `json:"filter"`
	Totals               //nolint:embeddedstructfieldcheck // the order is that of the file
}

// File is a file and what it holds.
type File struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Checkpoint is a signed checkpoint, and what it says.
type Checkpoint struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
	Note string `json:"note"`
}

// NewCheckpoint returns a checkpoint as a manifest has it.
func NewCheckpoint(c journal.Checkpoint) Checkpoint {
	return Checkpoint{Size: c.Size, Root: base64.StdEncoding.EncodeToString(c.Root[:]), Note: string(c.Note)}
}

// Range is from From to before To.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Totals count what is in the file.
type Totals struct {
	Count      uint64     `json:"count"`
	FirstIndex *uint64    `json:"first_index,omitempty"`
	LastIndex  *uint64    `json:"last_index,omitempty"`
	Earliest   *time.Time `json:"earliest,omitempty"`
	Latest     *time.Time `json:"latest,omitempty"`
	// Types and Outcomes count records by their words.
	Types    map[string]uint64 `json:"types"`
	Outcomes map[string]uint64 `json:"outcomes"`
	// Intents sums what was to happen, and OutcomesOK what happened: outcomes of calls that ended with ok.
	Intents    Sums `json:"intents"`
	OutcomesOK Sums `json:"outcomes_ok"`
}

// Add counts an entry.
func (t *Totals) Add(e *entry.Entry) {
	if t.Types == nil {
		t.Types, t.Outcomes = map[string]uint64{}, map[string]uint64{}
	}
	index := e.Index
	if t.Count == 0 {
		t.FirstIndex = &index
	}
	t.LastIndex = &index
	t.Count++
	t.Types[string(e.Type)]++
	if at := e.Time().UTC(); !at.IsZero() {
		if t.Earliest == nil || at.Before(*t.Earliest) {
			t.Earliest = &at
		}
		if t.Latest == nil || at.After(*t.Latest) {
			t.Latest = &at
		}
	}
	if e.Record.Outcome != "" {
		t.Outcomes[string(e.Record.Outcome)]++
	}
	switch {
	case e.Type == audit.TypeIntent:
		t.Intents.add(&e.Record.Transaction)
	case e.Type == audit.TypeOutcome && e.Record.Outcome == audit.OutcomeOK:
		t.OutcomesOK.add(&e.Record.Transaction)
	}
}

// End brings the totals into the form that they have in a manifest.
func (t *Totals) End() {
	if t.Types == nil {
		t.Types, t.Outcomes = map[string]uint64{}, map[string]uint64{}
	}
	t.Intents.end()
	t.OutcomesOK.end()
}

// Encode returns the manifest as its file has it.
func (m *Manifest) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return out.Bytes(), nil
}

// Read reads a manifest's file. It takes no field that it does not know: what cannot be checked should not look as if it had been.
func Read(path string) (*Manifest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%s is no manifest of an export: %w", path, err)
	}
	if m.Form != Form {
		return nil, fmt.Errorf("%s is no manifest of an export: its form is %q, not %q", path, m.Form, Form)
	}
	return m, nil
}
