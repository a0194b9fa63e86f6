package main

import (
	"fmt"
	"io"
	"strings"
)

// table prints rows as they come, and counts those that are not as expected.
type table struct {
	w                io.Writer
	rows, unexpected int
}

func newTable(w io.Writer) *table {
	fmt.Fprintf(w, layout, "", "WHO", "WHAT", "EXPECTED", "OUTCOME", "WHY, FROM THE SERVER'S RECORD")
	return &table{w: w}
}

func (t *table) title(text string) { fmt.Fprintf(t.w, "\n%s\n", text) }

const layout = "%4s  %-31s %-52s %-18s %-18s %s\n"

// row is one call: what was done, what came of it, and what was expected.
type row struct {
	who, what    string
	want, got    string // outcomes
	wantWhy, why string // wantWhy is a part of why
	detail       string // printed after why where something was unexpected
}

func (t *table) add(r row) {
	t.rows++
	why := r.why
	if r.got != r.want || !strings.Contains(r.why, r.wantWhy) {
		t.unexpected++
		why = fmt.Sprintf("UNEXPECTED, not %q: %s %s", r.wantWhy, r.why, r.detail)
	}
	fmt.Fprintf(t.w, layout, fmt.Sprint(t.rows), strings.TrimPrefix(r.who, "spiffe://"), r.what, r.want, r.got, why)
}

// end prints the sum and reports whether all was as expected.
func (t *table) end() bool {
	fmt.Fprintf(t.w, "\n%d rows, %d as expected, %d unexpected\n", t.rows, t.rows-t.unexpected, t.unexpected)
	return t.unexpected == 0
}
