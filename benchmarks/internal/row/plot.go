package row

import "math"

// Plot is a picture of lines over one axis, which stands under the heading Group beside its rows.
type Plot struct {
	Group string `json:"group"`
	// Title says what Y is, X what the axis counts, such as "callers", and Unit is that of Y.
	Title string `json:"title"`
	X     string `json:"x"`
	Unit  string `json:"unit"`
	Lines []Line `json:"lines"`
}

// Line is one of a plot. The zero value has no points, and is not drawn.
type Line struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is what was measured at X.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Add appends the median of values at x. One that is no number, or none that a plot has room for, is left out.
func (l *Line) Add(x float64, values ...float64) {
	if y := Median(values); !math.IsNaN(y) && !math.IsInf(y, 0) {
		l.Points = append(l.Points, Point{x, y})
	}
}
