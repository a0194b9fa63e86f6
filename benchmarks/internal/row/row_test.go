package row_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	one := []float64{1, 1, 1, 1, 1}
	for name, tt := range map[string]struct {
		row  row.Row
		want row.Verdict
	}{
		"no goal":                           {row.Row{Ours: row.Figure{Values: one}, Theirs: row.Figure{Values: one}}, row.None},
		"met":                               {ratios(0.97, 0.98, 0.99, 0.99, 0.99, 1), row.Met},
		"exactly":                           {ratios(1, 1, 1, 1), row.Met},
		"not met":                           {ratios(0.97, 0.9, 0.91, 0.92, 0.93), row.NotMet},
		"too wide, above":                   {ratios(0.97, 0.8, 0.9, 0.98, 1.1, 1.2), row.TooNoisy},
		"too wide, below":                   {ratios(0.97, 0.8, 0.9, 0.96, 1.1, 1.2), row.TooNoisy},
		"a goal and nothing measured":       {row.Row{Goal: 1}, row.NotMet},
		"below nothing":                     {row.Row{Goal: 3, Ours: row.Figure{Values: []float64{-1, -2, -1, 1, 1}}, Theirs: row.Figure{Values: one}}, row.TooNoisy},
		"no number":                         {ratios(1, math.NaN(), math.NaN()), row.TooNoisy},
		"less is better":                    {row.Row{Goal: 2, Ours: row.Figure{Values: one}, Theirs: row.Figure{Values: []float64{3, 3, 3, 3, 3}}}, row.Met},
		"less is better, and it is more":    {row.Row{Goal: 2, Ours: row.Figure{Values: []float64{3, 3, 3, 3, 3}}, Theirs: row.Figure{Values: one}}, row.NotMet},
		"enough, where less is better":      {row.Row{Enough: 2048, Ours: row.Figure{Values: []float64{2000, 2001, 2000}}}, row.Met},
		"too much, where less is better":    {row.Row{Enough: 2048, Ours: row.Figure{Values: []float64{2100, 2101, 2100}}}, row.NotMet},
		"enough, where the ratio is missed": {row.Row{Goal: 2, Enough: 1, More: true, Ours: row.Figure{Values: one}, Theirs: row.Figure{Values: one}}, row.Met},
		"neither":                           {row.Row{Goal: 2, Enough: 2, More: true, Ours: row.Figure{Values: one}, Theirs: row.Figure{Values: one}}, row.NotMet},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.row.Verdict(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// ratios returns a row with the goal and the ratios.
func ratios(goal float64, r ...float64) row.Row {
	return row.Row{Goal: goal, More: true, Ours: row.Figure{Values: r}, Theirs: row.Figure{Values: slices.Repeat([]float64{1}, len(r))}}
}

func TestQuartiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values            []float64
		low, middle, high float64
	}{
		{nil, 0, 0, 0},
		{[]float64{7}, 7, 7, 7},
		{[]float64{3, 1}, 1.5, 2, 2.5},
		{[]float64{5, 1, 4, 2, 3}, 2, 3, 4},
	} {
		if low, middle, high := row.Quartiles(tt.values); low != tt.low || middle != tt.middle || high != tt.high {
			t.Errorf("%v: %v, %v, %v, want %v, %v, %v", tt.values, low, middle, high, tt.low, tt.middle, tt.high)
		}
	}
}

func TestMoreAllocs(t *testing.T) {
	t.Parallel()
	r := row.Row{Ours: row.Figure{Allocs: []float64{9, 8, 10}}}
	if _, counted := r.MoreAllocs(); counted {
		t.Error("allocations of theirs that nobody counted are compared")
	}
	r.Theirs.Allocs = []float64{5, 5, 6}
	if more, counted := r.MoreAllocs(); more != 4 || !counted {
		t.Errorf("%v more, %v", more, counted)
	}
}

func TestInterleave(t *testing.T) {
	t.Parallel()
	var asked []int
	settled := 0
	measured, err := row.Interleave(3, time.Millisecond,
		row.Side{Name: "a", Run: func(n int) error { spin(n); return nil }},
		row.Side{Name: "b", Least: 64, Run: func(n int) error { asked = append(asked, n); spin(n); return nil }, Settle: func() error { settled++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range measured {
		if len(m.Wall) != 3 || len(m.CPU) != 3 || len(m.Allocs) != 3 {
			t.Errorf("side %d: %v", i, m)
		}
	}
	if slices.Min(asked) < 64 || settled < 5 { // One that calibrates, one that warms up, and three.
		t.Errorf("asked for %v, settled %d times", asked, settled)
	}
}

// spin takes a while, n times.
func spin(n int) {
	for range n {
		_ = time.Now()
	}
}

func TestInterleaveNamesTheSideThatFails(t *testing.T) {
	t.Parallel()
	fails := func(int) error { return errors.New("no answer") }
	for name, side := range map[string]row.Side{
		"at work":    {Name: "b", Run: fails},
		"afterwards": {Name: "b", Run: func(n int) error { spin(n); return nil }, Settle: func() error { return errors.New("no answer") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := row.Interleave(1, time.Millisecond, side); err == nil || err.Error() != "b: no answer" {
				t.Errorf("%v", err)
			}
		})
	}
}
