// Package row has the lines of the benchmarks' report: something of ours beside something of others that does the same work,
// measured in one run.
package row

import "slices"

// Row is one line of the report.
type Row struct {
	// Group is the heading that it stands under, and Name what is measured, in words.
	Group, Name string
	// Unit is that of the values. More says that more of it is better.
	Unit string
	More bool
	// Ours and Theirs have a value a round, of the same rounds.
	Ours, Theirs Figure
	// Goal is what the median ratio must reach, and Enough what the median of ours may reach instead; 0 where there is none.
	Goal, Enough float64
	// Note says what is not comparable, or what else a reader must know.
	Note string
}

// Figure is what one side came to.
type Figure struct {
	Name   string
	Values []float64
	// Allocs are allocations for one operation, in each round; empty where they were not counted.
	Allocs []float64
}

// Ratios returns how much better ours was, round by round: more than 1 is better, whichever way the unit goes.
func (r *Row) Ratios() []float64 {
	n := min(len(r.Ours.Values), len(r.Theirs.Values))
	ratios := make([]float64, n)
	for i := range ratios {
		if r.More {
			ratios[i] = r.Ours.Values[i] / r.Theirs.Values[i]
		} else {
			ratios[i] = r.Theirs.Values[i] / r.Ours.Values[i]
		}
	}
	return ratios
}

// Median returns the median of values, 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
