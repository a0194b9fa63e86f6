package glued

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// Group is the heading that the rows stand under.
const Group = "Beside the same controls assembled by hand"

// compared is what is measured together: a bare side, a guarded one and a glued one.
type compared struct {
	level Level
	log   io.Writer
	goal  float64
	note  string
}

var comparisons = []compared{
	{level: Controls, goal: 3, note: "no records: ours go to audit.Discard, theirs has no access log"},
	{level: WithValidation, goal: 3, note: "no records; theirs validates with protovalidate behind its middleware, ours with the guard's validator, which says the same (see validation), and the response at the client as well"},
	{level: WithTracing, goal: 2, note: "no records; client and server of both make spans: ours by a stage of the guard, theirs by otelgrpc's stats handlers; a sampler that never samples, W3C trace context, no metrics on either side"},
	{level: WithValidation, log: io.Discard, goal: 3, note: "a line of JSON a call from each side, to io.Discard: ours grpcguard's records, theirs slog through go-grpc-middleware's logging"},
}

// Rows measures what the controls add to a bare call: grpcguard's beside those of a [Stack], at each [Level]. All sides have a deadline of
// the caller's, 64 callers and one connection.
func Rows(quick bool) ([]row.Row, error) {
	rounds, turn := 21, 240*time.Millisecond
	if quick {
		rounds, turn = 9, 60*time.Millisecond
	}
	w, err := NewWorld(enough, time.Second)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var rows []row.Row
	for _, c := range comparisons {
		more, err := w.compare(c, rounds, turn)
		if err != nil {
			return nil, fmt.Errorf("glued: %s: %w", c.level, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// compare measures the three sides of c.
func (w *World) compare(c compared, rounds int, turn time.Duration) ([]row.Row, error) {
	bare, err := w.Bare(false)
	if err != nil {
		return nil, err
	}
	guarded, err := w.Guarded(false, c.level, c.log)
	if err != nil {
		return nil, err
	}
	stack, err := w.Glued(false, c.level, c.log)
	if err != nil {
		return nil, err
	}
	rules := c.level >= WithValidation
	m, err := row.Interleave(rounds, turn, Side("bare", bare, rules), Side("guarded", guarded, rules), Side("glued", stack, rules))
	if err != nil {
		return nil, err
	}
	name := c.level.String()
	if c.log != nil {
		name += ", with records"
	}
	rows := []row.Row{
		added("CPU that a call has more than a bare one: "+name, m[0].CPU, m[1].CPU, m[2].CPU),
		added("time that a call has more than a bare one: "+name, m[0].Wall, m[1].Wall, m[2].Wall),
	}
	for i := range rows {
		rows[i].Ours.Allocs, rows[i].Theirs.Allocs = minus(m[1].Allocs, m[0].Allocs), minus(m[2].Allocs, m[0].Allocs)
		rows[i].Note = c.note + rows[i].Note
	}
	rows[0].Goal = c.goal
	return rows, nil
}

// added makes a row of what two sides take more than a bare one, round by round.
func added(name string, bare, guarded, glued []float64) row.Row {
	r := row.Row{
		Group: Group, Name: name, Unit: "ns",
		Ours:   row.Figure{Name: "grpcguard", Values: minus(guarded, bare)},
		Theirs: row.Figure{Name: "assembled by hand", Values: minus(glued, bare)},
	}
	r.Note = fmt.Sprintf("; a bare call %.0f ns", row.Median(bare)) + doubt(&r)
	return r
}

// doubt says that a row is too noisy to be read, if it is: where a side came out cheaper than the bare call that it contains, or where
// the middle half of the rounds does not agree on the ratio within a factor of two.
func doubt(r *row.Row) string {
	if least := min(slices.Min(r.Ours.Values), slices.Min(r.Theirs.Values)); least <= 0 {
		return fmt.Sprintf("; too noisy: in some round a side took %.0f ns less than what it contains", -least)
	}
	ratios := slices.Sorted(slices.Values(r.Ratios()))
	low, high := ratios[len(ratios)/4], ratios[len(ratios)-1-len(ratios)/4]
	if high > 2*low {
		return fmt.Sprintf("; too noisy: half of the rounds say %.1f to %.1f", low, high)
	}
	return ""
}

func minus(a, b []float64) []float64 {
	d := make([]float64, min(len(a), len(b)))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	return d
}
