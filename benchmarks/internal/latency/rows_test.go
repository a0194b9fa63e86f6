package latency

import (
	"testing"
	"time"
)

// Both sides answer the same arrivals, so that each round has as many calls of either.
func TestRowsOfOneRound(t *testing.T) {
	t.Parallel()
	f, err := measure(1, 20*time.Millisecond, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Bare) != 1 || len(f.Guarded) != 1 || f.Bare[0].Calls != f.Guarded[0].Calls || f.Rate != share*f.Capacity {
		t.Errorf("%+v", f)
	}
	rows := f.Rows()
	if len(rows) != len(percentiles) {
		t.Errorf("%d rows", len(rows))
	}
	for i, r := range rows {
		if len(r.Ours.Values) != 1 || len(r.Theirs.Values) != 1 || i > 0 && r.Ours.Values[0] < rows[i-1].Ours.Values[0] {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
	for _, l := range f.Plot().Lines {
		if len(l.Points) == 0 || l.Points[0].X < 1 {
			t.Errorf("%+v", l)
		}
	}
}
