package show

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// Table writes rows as they come. A column is as wide as its widest cell so far, up to a bound that one long cell cannot move, so that
// rows stay aligned and none has to be held back.
type Table struct {
	w      io.Writer
	widths []int
}

// maxWidth is as far as a column is padded.
const maxWidth = 48

// NewTable begins a table with its titles. A title may be followed by spaces, which are the width to begin with.
func NewTable(w io.Writer, titles ...string) (*Table, error) {
	t := &Table{w: w, widths: make([]int, len(titles))}
	for i, title := range titles {
		t.widths[i] = len(title)
		titles[i] = strings.TrimRight(title, " ")
	}
	return t, t.row(titles)
}

// WriteTable writes a table of which all rows are there, each column as wide as it needs.
func WriteTable(w io.Writer, titles []string, rows [][]string) error {
	wide := slices.Clone(titles)
	for _, row := range rows {
		for i, c := range row {
			wide[i] += strings.Repeat(" ", max(0, len(Cell(c))-len(wide[i])))
		}
	}
	t, err := NewTable(w, wide...)
	for _, row := range rows {
		if err == nil {
			err = t.Row(row...)
		}
	}
	return err
}

// Row writes a row. Each cell is shown as Cell has it.
func (t *Table) Row(cells ...string) error {
	for i, c := range cells {
		cells[i] = Cell(c)
	}
	return t.row(cells)
}

func (t *Table) row(cells []string) error {
	var b strings.Builder
	for i, c := range cells {
		t.widths[i] = max(t.widths[i], min(len(c), maxWidth))
		b.WriteString(c)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(0, t.widths[i]-len(c))+2))
		}
	}
	_, err := fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	return err
}

var titles = []string{
	"INDEX", "TIME                    ", "TYPE    ", "OUTCOME", "CALLER                            ", "METHOD                      ", "TRANSACTION", "AMOUNT      ", "FROM    ", "TO      ", "WHAT",
}

// entryCells returns what a table shows of an entry.
func entryCells(e *entry.Entry) []string {
	r, t := &e.Record, &e.Record.Transaction
	return []string{
		fmt.Sprint(e.Index), Time(e.Time()), string(e.Type), string(r.Outcome), r.Caller, r.Method, t.ID, Amount(t), t.FromAccount, t.ToAccount, what(e),
	}
}

// Time returns a time as tables have it, to the millisecond.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// Amount returns an amount with its currency.
func Amount(t *audit.Transaction) string {
	if t.Amount == "" {
		return ""
	}
	out := t.Amount
	if t.MinorUnits {
		out += "minor"
	}
	if t.Currency != "" {
		out += "/" + t.Currency
	}
	return out
}

// what says what the other columns do not: why a call was refused, and what happened in an event.
func what(e *entry.Entry) string {
	r := &e.Record
	var parts []string
	switch {
	case e.Type == entry.Journal:
		return fmt.Sprintf("records before %d were deleted", e.Pruned.Before)
	case e.Type == entry.Foreign:
		return fmt.Sprintf("%d bytes that are no audit record", len(e.Data))
	case r.Event != "":
		parts = []string{string(r.Event), r.Subject}
	case r.Outcome != "" && r.Outcome != audit.OutcomeOK:
		parts = []string{r.Code.String(), r.Stage, r.Reason}
	}
	if r.Count > 0 {
		parts = append(parts, fmt.Sprintf("count %d", r.Count))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}
