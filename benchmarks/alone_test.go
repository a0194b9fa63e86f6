package main

import (
	"reflect"
	"testing"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// What a process of its own measured is what its report says, but for the allocations.
func TestRowsOfAReport(t *testing.T) {
	t.Parallel()
	r := made()
	r.Rows = append(r.Rows, row.Row{Group: "Scale", Name: "memory", Unit: "bytes", Enough: 200, Ours: row.Figure{Name: "guard", Values: []float64{-5, 7}}})
	text, err := r.json()
	if err != nil {
		t.Fatal(err)
	}
	rows, plots, err := rowsOf(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Rows {
		r.Rows[i].Ours.Allocs, r.Rows[i].Theirs.Allocs = nil, nil
	}
	if !reflect.DeepEqual(rows, r.Rows) || !reflect.DeepEqual(plots, r.Plots) {
		t.Errorf("got %+v\n%+v\nwant %+v\n%+v", rows, plots, r.Rows, r.Plots)
	}
	if _, _, err := rowsOf([]byte("{")); err == nil {
		t.Error("half a report was read")
	}
}
