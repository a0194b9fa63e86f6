package main

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// small is a bench that is over soon, whatever the disk is.
func small(t *testing.T) *bench {
	t.Helper()
	b := &bench{quick: true, rounds: 1, turn: time.Millisecond, callers: 8, verified: 1000, disk: &disk{dir: t.TempDir(), system: "a disk"}}
	t.Cleanup(func() {
		if err := b.end(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Both sides of a row do the same: what calls is answered with the same code and the same message.
func TestSidesAnswerAlike(t *testing.T) {
	t.Parallel()
	calling := 0
	for _, s := range subjects {
		if s.contests == nil {
			continue
		}
		b := small(t)
		contests, err := s.contests(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range contests {
			for _, l := range c.lines {
				for _, theirs := range l.theirs {
					calling += alike(t, c, l, theirs)
				}
			}
		}
	}
	if calling < 30 {
		t.Errorf("only %d comparisons call", calling)
	}
}

// alike compares ours of a line with one of theirs, and returns 1 if they call.
func alike(t *testing.T, c contest, l line, theirs string) int {
	t.Helper()
	i, err := c.find(l.ours[0])
	if err != nil {
		t.Fatalf("%s: %v", l.Name, err)
	}
	k, err := c.find(theirs)
	if err != nil {
		t.Fatalf("%s: %v", l.Name, err)
	}
	ours, other := c.sides[i], c.sides[k]
	if (ours.answer == nil) != (other.answer == nil) {
		t.Errorf("%s: one side calls, the other does not", l.Name)
	}
	if ours.answer == nil || other.answer == nil {
		return 0
	}
	got, gotErr := ours.answer()
	want, wantErr := other.answer()
	if status.Code(gotErr) != status.Code(wantErr) {
		t.Errorf("%s: %v, and theirs %v", l.Name, gotErr, wantErr)
	}
	if gotErr == nil && !proto.Equal(got, want) {
		t.Errorf("%s: %v, and theirs %v", l.Name, got, want)
	}
	return 1
}

// Every row has a name, a unit, and a figure for each round; no two have one name.
func TestRows(t *testing.T) {
	t.Parallel()
	var seen []string
	for _, s := range subjects {
		if s.contests == nil {
			continue // Those that run go test take long.
		}
		b := small(t)
		rows, plots, err := subject{name: s.name, contests: s.contests}.measure(b)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for _, p := range plots {
			for _, l := range p.Lines {
				if p.Group == "" || p.Title == "" || p.X == "" || p.Unit == "" || l.Name == "" || len(l.Points) < 2 {
					t.Errorf("%s: %+v", s.name, p)
				}
			}
		}
		for _, r := range rows {
			if r.Name == "" || r.Group == "" || r.Unit == "" || slices.Contains(seen, r.Name) {
				t.Errorf("%s: %q in %q, %q", s.name, r.Name, r.Group, r.Unit)
			}
			seen = append(seen, r.Name)
			if len(r.Ours.Values) != 1 || len(r.Theirs.Values) > 1 {
				t.Errorf("%s: %v beside %v", r.Name, r.Ours.Values, r.Theirs.Values)
			}
		}
	}
}

func TestChosen(t *testing.T) {
	t.Parallel()
	// Whatever the order of the list is, the suite has its own.
	order := map[string][]string{
		"verify,calls": {"calls", "verify"}, "scale,latency,decision": {"decision", "latency", "scale"}, "glued,validation": {"validation", "glued"},
		"": {"decision", "core", "validation", "calls", "client", "glued", "streams", "throughput", "latency", "refusals", "scale", "coldstart", "limiter", "breaker", "redis", "records", "verify"},
	}
	for only, want := range map[string]string{
		"verify,calls": "", "": "", "scale,latency,decision": "", "glued,validation": "",
		"call":      `-only: there is no "call"; there are decision, core, validation, calls, client, glued, streams, throughput, latency, refusals, scale, coldstart, limiter, breaker, redis, records, verify`,
		"calls,,":   `-only: there is no ""; there are decision, core, validation, calls, client, glued, streams, throughput, latency, refusals, scale, coldstart, limiter, breaker, redis, records, verify`,
		"calls, re": `-only: there is no " re"; there are decision, core, validation, calls, client, glued, streams, throughput, latency, refusals, scale, coldstart, limiter, breaker, redis, records, verify`,
	} {
		list, err := chosen(only)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v", only, err)
		}
		var names []string
		for _, s := range list {
			names = append(names, s.name)
		}
		if of, ok := order[only]; ok && !slices.Equal(names, of) {
			t.Errorf("%q: %v, want %v", only, names, of)
		}
	}
}

func TestSlope(t *testing.T) {
	t.Parallel()
	of := func(cpu ...float64) row.Measured { return row.Measured{CPU: cpu} }
	got := cpuSlope(1, 11, 21)(of(110, 7), of(210, 7), of(310, 7))
	if want := []float64{10, 0}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
