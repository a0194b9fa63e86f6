// Package row has the lines of the benchmarks' report: something of ours beside something of others that does the same work,
// measured in one run.
package row

import (
	"math"
	"slices"
)

// Row is one line of the report.
type Row struct {
	// Group is the heading that it stands under, and Name what is measured, in words.
	Group, Name string
	// Unit is that of the values. More says that more of it is better.
	Unit string
	More bool
	// Ours and Theirs have a value a round, of the same rounds. Theirs has none where ours stands beside nothing.
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

// Ratios returns how much better ours was, round by round: more than 1 is better, whichever way the unit goes. It is no number in a round
// in which a side is not above 0, as differences may be where rounds are noisy.
func (r *Row) Ratios() []float64 {
	n := min(len(r.Ours.Values), len(r.Theirs.Values))
	ratios := make([]float64, n)
	for i := range ratios {
		ours, theirs := r.Ours.Values[i], r.Theirs.Values[i]
		switch {
		case !(ours > 0) || !(theirs > 0):
			ratios[i] = math.NaN()
		case r.More:
			ratios[i] = ours / theirs
		default:
			ratios[i] = theirs / ours
		}
	}
	return ratios
}

// MoreAllocs returns how many allocations more ours makes for one operation, and whether both were counted.
func (r *Row) MoreAllocs() (more float64, counted bool) {
	if len(r.Ours.Allocs) == 0 || len(r.Theirs.Allocs) == 0 {
		return 0, false
	}
	return Median(r.Ours.Allocs) - Median(r.Theirs.Allocs), true
}

// Verdict says whether a row reaches its goal.
type Verdict string

// The verdicts. A row without a goal has none.
const (
	None     Verdict = ""
	Met      Verdict = "met"
	NotMet   Verdict = "not met"
	TooNoisy Verdict = "too noisy to say"
)

// Verdict returns whether the goal is met. What is nearer to it than the middle half of the rounds are wide is too noisy to say, whichever
// side of it the median is on. A row that has enough needs no ratio.
func (r *Row) Verdict() Verdict {
	ratio, enough := None, None
	if r.Goal > 0 {
		ratio = reaches(r.Ratios(), r.Goal, true)
	}
	if r.Enough > 0 {
		enough = reaches(r.Ours.Values, r.Enough, r.More)
	}
	for _, v := range []Verdict{Met, TooNoisy, NotMet} {
		if ratio == v || enough == v {
			return v
		}
	}
	return None
}

// reaches says whether values are clearly goal or better. No values reach nothing, and what is no number says nothing.
func reaches(values []float64, goal float64, more bool) Verdict {
	if len(values) == 0 {
		return NotMet
	}
	low, middle, high := Quartiles(values)
	distance := middle - goal
	if !more {
		distance = -distance
	}
	switch {
	case math.IsNaN(distance) || math.IsNaN(high-low) || high-low > math.Abs(distance):
		return TooNoisy
	case distance >= 0:
		return Met
	}
	return NotMet
}

// Median returns the median of values, 0 of none.
func Median(values []float64) float64 {
	_, middle, _ := Quartiles(values)
	return middle
}

// Quartiles returns the values that a quarter, a half and three quarters of values lie below, 0 of none. Between two values they are
// interpolated.
func Quartiles(values []float64) (low, middle, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	s := slices.Sorted(slices.Values(values))
	at := func(share float64) float64 {
		whole, part := math.Modf(share * float64(len(s)-1))
		i := int(whole)
		if part == 0 {
			return s[i]
		}
		return s[i] + part*(s[i+1]-s[i])
	}
	return at(0.25), at(0.5), at(0.75)
}
