package validation

import (
	"testing"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// Both sides say the same of what is measured, or there are no rows.
func TestRows(t *testing.T) {
	rows, err := Rows(true)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(cases()) {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		t.Logf("%s: ours %.0f ns (%.1f allocations), theirs %.0f ns (%.1f), %.2f times", r.Name, row.Median(r.Ours.Values), row.Median(r.Ours.Allocs),
			row.Median(r.Theirs.Values), row.Median(r.Theirs.Allocs), row.Median(r.Ratios()))
	}
}

// A transfer that keeps its rules costs no allocation.
func TestAValidTransferAllocatesNothing(t *testing.T) {
	both, err := newPair(transfer().ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	m := transfer()
	if n := testing.AllocsPerRun(100, func() {
		if err := both.ours.Check(m); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
