package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// goTest runs benchmarks of packages that cannot be reached from here, or need what tests have, and returns every figure by
// benchmark and unit. What more go test is told are packages, and flags before them. Runs of one benchmark follow each other, and are not interleaved with those of others.
func goTest(dir, pattern string, count int, benchtime time.Duration, more ...string) (map[string][]float64, error) {
	args := append([]string{"test", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", benchtime.String(), "-count", strconv.Itoa(count)}, more...)
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return parseBenchmarks(string(text)), nil
}

var benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// parseBenchmarks returns all figures of go test's output, by name, a space and unit.
func parseBenchmarks(text string) map[string][]float64 {
	all := make(map[string][]float64)
	for l := range strings.Lines(text) {
		m := benchLine.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				key := m[1] + " " + fields[i+1]
				all[key] = append(all[key], v)
			}
		}
	}
	return all
}

// coreRows are what is read out of the core's own benchmarks.
var coreRows = []struct {
	name, benchmark, less, note string
}{
	{"the decision, of 10 rules", "Decide/10_rules", "", ""},
	{"the decision, of 500 rules", "Decide/500_rules", "", ""},
	{"the decision, of 50,000 rules", "Decide/50000_rules", "", ""},
	{"identity, rule and callers, with the caller read from the connection", "Stages", "", ""},
	{"all that a guarded call adds on a server", "Chain", "ContextAlone", "tap, interceptor, all stages, a record that is discarded; the caller's deadline is gRPC's and taken off"},
	{"a refusal in the tap", "Refused", "", ""},
}

// core is what parts of the core cost by themselves, without gRPC. They stand beside nothing.
func (b *bench) core() ([]row.Row, []row.Plot, error) {
	benchtime := min(b.turn, 300*time.Millisecond)
	figures, err := goTest("..", "^Benchmark(Decide|Stages|Chain|ContextAlone|Refused)$", b.rounds, benchtime, "./policy", "./interceptors")
	if err != nil {
		return nil, nil, err
	}
	var rows []row.Row
	for _, r := range coreRows {
		of := row.Figure{Name: r.benchmark, Values: figures[r.benchmark+" ns/op"], Allocs: figures[r.benchmark+" allocs/op"]}
		if len(of.Values) == 0 {
			return nil, nil, fmt.Errorf("there is no benchmark %s", r.benchmark)
		}
		if r.less != "" {
			of.Values = minus(of.Values, figures[r.less+" ns/op"])
			of.Allocs = minus(of.Allocs, figures[r.less+" allocs/op"])
		}
		rows = append(rows, row.Row{Group: "Parts alone", Name: r.name, Unit: "ns", Ours: of, Note: r.note})
	}
	return rows, nil, nil
}

// minus takes the median of less off each value.
func minus(values, less []float64) []float64 {
	return each(values, func(v float64) float64 { return v - row.Median(less) })
}

// redis is decisions of limits that four processes' stores share over a real server.
func (b *bench) redis() ([]row.Row, []row.Plot, error) {
	figures, err := goTest(".", "^BenchmarkRedis$", min(b.rounds, 5), time.Millisecond, ".")
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := figures["Redis/lease=1000 decisions/s"], figures["Redis/one_trip_each decisions/s"]
	if len(ours) == 0 || len(theirs) == 0 {
		return nil, nil, fmt.Errorf("BenchmarkRedis measured %d and %d times", len(ours), len(theirs))
	}
	return []row.Row{{
		Group: limiterGroup, Name: "Redis: leases of 1,000, beside a round trip each", Unit: "decisions/s", More: true, Goal: 20,
		Ours: row.Figure{Name: "leases of 1,000", Values: ours}, Theirs: row.Figure{Name: "a round trip each", Values: theirs},
		Note: "four stores of four callers each, a real redis-server on this machine; the runs of the two are not interleaved",
	}}, nil, nil
}
