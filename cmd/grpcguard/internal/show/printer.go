package show

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
)

// The formats.
const (
	FormatTable = "table"
	FormatJSON  = "json"
	FormatCSV   = "csv"
)

// Printer writes entries in one format, each with one call of Write.
type Printer struct {
	w      io.Writer
	format string
	table  *Table
	line   []byte
}

// CheckFormat says whether a format is one of those allowed.
func CheckFormat(format string, allowed ...string) error {
	if !slices.Contains(allowed, format) {
		return fmt.Errorf("-format: %q is none of %s", format, strings.Join(allowed, ", "))
	}
	return nil
}

// NewPrinter writes what comes before the first entry.
func NewPrinter(w io.Writer, format string) (*Printer, error) {
	p := &Printer{w: w, format: format}
	var err error
	switch format {
	case FormatTable:
		p.table, err = NewTable(w, slices.Clone(titles)...)
	case FormatCSV:
		_, err = io.WriteString(w, CSVHeader)
	}
	return p, err
}

// Print writes one entry.
func (p *Printer) Print(e *entry.Entry) error {
	var err error
	switch p.format {
	case FormatTable:
		return p.table.Row(entryCells(e)...)
	case FormatCSV:
		p.line = AppendCSV(p.line[:0], e)
	default:
		if p.line, err = AppendJSON(p.line[:0], e); err != nil {
			return err
		}
	}
	_, err = p.w.Write(p.line)
	return err
}
