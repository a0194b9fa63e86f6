package glued

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// All that is measured can be, with the answers that are expected.
func TestRowsOfOneRound(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t, enough, time.Second)
	for _, c := range comparisons {
		rows, err := w.compare(c, 1, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if len(r.Ours.Values) != 1 || len(r.Theirs.Values) != 1 || len(r.Ours.Allocs) != 1 {
				t.Errorf("%s: %+v", r.Name, r)
			}
		}
	}
	if r, err := w.slopes(1, time.Millisecond); err != nil || len(r.Ours.Values) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTheSlopeIsThatOfALine(t *testing.T) {
	t.Parallel()
	var m []row.Measured
	for _, k := range repeats {
		m = append(m, row.Measured{CPU: []float64{1000 + 300*float64(k), 50 * float64(k)}})
	}
	if got, want := slopesOf(m, cpu), []float64{300, 50}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestARowThatIsTooNoisySaysSo(t *testing.T) {
	t.Parallel()
	bare := []float64{10, 10, 10, 10}
	for _, tt := range []struct {
		name          string
		guarded, glue []float64
		want          string
	}{
		{"quiet", []float64{11, 11, 11, 11}, []float64{13, 13, 13, 13}, "; a bare call 10 ns"},
		{"cheaper than bare", []float64{11, 7, 11, 11}, []float64{13, 13, 13, 13}, "; too noisy: in some round a side took 3 ns less than what it contains"},
		{"no agreement", []float64{11, 11, 12, 13}, []float64{13, 13, 12, 11}, "; too noisy: half of the rounds say 1.0 to 3.0"},
	} {
		if r := added("x", bare, tt.guarded, tt.glue); !strings.HasSuffix(r.Note, tt.want) {
			t.Errorf("%s: %q, want an end of %q", tt.name, r.Note, tt.want)
		}
	}
}
