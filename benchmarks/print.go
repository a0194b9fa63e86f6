package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

const columns = "%-104s %11s %11s %8s %16s %9s  %-16s  %s\n"

func printHeader(out io.Writer, group string) {
	fmt.Fprintf(out, "\n"+columns, group, "ours", "theirs", "ratio", "(min..max)", "goal", "", "unit, allocations more")
}

// printRow prints a line.
func printRow(out io.Writer, r *row.Row) {
	c := cellsOf(r)
	unit := c.unit
	if c.allocs != "" {
		unit += ", " + c.allocs
	}
	fmt.Fprintf(out, columns, r.Name, c.ours, c.theirs, c.ratio, c.spread, c.goal, r.Verdict(), unit)
}

// cells are a row in text. What a row does not have is empty.
type cells struct{ ours, theirs, ratio, spread, goal, unit, allocs string }

func cellsOf(r *row.Row) cells {
	c := cells{unit: r.Unit, ours: number(row.Median(r.Ours.Values))}
	if len(r.Ours.Values) == 0 {
		c.ours = "-"
	}
	ratios := r.Ratios()
	if len(ratios) > 0 {
		c.theirs = number(row.Median(r.Theirs.Values))
		if c.ratio = number(row.Median(ratios)); c.ratio != "-" {
			c.ratio += "x"
		}
		c.spread = fmt.Sprintf("(%s..%s)", number(slices.Min(ratios)), number(slices.Max(ratios)))
	} else if len(r.Ours.Values) > 0 {
		c.spread = fmt.Sprintf("(%s..%s)", number(slices.Min(r.Ours.Values)), number(slices.Max(r.Ours.Values)))
	}
	var goals []string
	if r.Goal > 0 {
		goals = append(goals, strconv.FormatFloat(math.Round(r.Goal*100)/100, 'f', -1, 64)+"x")
	}
	if r.Enough > 0 && !r.More {
		goals = append(goals, "≤"+number(r.Enough))
	} else if r.Enough > 0 {
		goals = append(goals, number(r.Enough))
	}
	c.goal = strings.Join(goals, " or ")
	if more, counted := r.MoreAllocs(); counted {
		c.allocs = fmt.Sprintf("%+.1f", more)
	} else if len(r.Ours.Allocs) > 0 && len(r.Theirs.Values) == 0 {
		c.allocs = fmt.Sprintf("%.1f", row.Median(r.Ours.Allocs))
	}
	return c
}

// number writes three digits or more of v, with commas between thousands.
func number(v float64) string {
	size := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case size >= 100:
		digits := strconv.FormatFloat(math.Round(size), 'f', 0, 64)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		if v < 0 {
			return "-" + digits
		}
		return digits
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
