package main

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// comparison is a row of what a control costs beside others that do the same.
type comparison struct {
	what string
	unit string
	// more says that more is better.
	more bool
	ours string
	// theirs are those that it is compared with; the best of them counts.
	theirs []string
	goal   float64
}

const limiterKeys = "BenchmarkLimiter/keys=100000/"

var comparisons = []comparison{
	{"a decision on 100,000 live keys, each side reads the clock", "cpu-ns/op", false, limiterKeys + "grpcguard-ready-key",
		[]string{limiterKeys + "x-time-rate", limiterKeys + "go-limiter", limiterKeys + "throttled"}, 3},
	{"the same, told the time, as a call's limits are", "cpu-ns/op", false, limiterKeys + "grpcguard-ready-key-given", []string{limiterKeys + "x-time-rate-given"}, 3},
	{"memory a key", "B/key", false, limiterKeys + "grpcguard",
		[]string{limiterKeys + "x-time-rate", limiterKeys + "go-limiter", limiterKeys + "throttled"}, 1},
	{"1,000,000 keys beside 1,000, told the time", "cpu-ns/op", false, "BenchmarkLimiter/keys=1000000/grpcguard-ready-key-given",
		[]string{"BenchmarkLimiter/keys=1000/grpcguard-ready-key-given"}, 0.5},
	{"a breaker that is closed, beside gobreaker alone", "ns/op", false, "BenchmarkBreaker/inARow/closed/ours/alone",
		[]string{"BenchmarkBreaker/inARow/closed/gobreakerExecute/alone"}, 1},
	{"Redis: leased beside one round trip each", "decisions/s", true, "BenchmarkRedis/lease=1000", []string{"BenchmarkRedis/one_trip_each"}, 20},
}

// controls measures limiters and breakers beside their peers, and prints a row each: ours, theirs, the ratio and the goal.
func (b bench) controls(out io.Writer) error {
	measured, err := b.goBench("^Benchmark(Limiter|Breaker|Redis)$")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-62s %12s %12s %9s %6s\n", "", "ours", "theirs", "ratio", "goal")
	for _, c := range comparisons {
		ours, ok := measured[c.ours+" "+c.unit]
		if !ok {
			return fmt.Errorf("%s was not measured", c.ours)
		}
		theirs, best := 0.0, ""
		for _, name := range c.theirs {
			v, ok := measured[name+" "+c.unit]
			if !ok {
				return fmt.Errorf("%s was not measured", name)
			}
			if best == "" || (v > theirs) == c.more {
				theirs, best = v, name
			}
		}
		ratio := theirs / ours
		if c.more {
			ratio = ours / theirs
		}
		verdict := "met"
		if ratio < c.goal {
			verdict = "not met"
		}
		fmt.Fprintf(out, "%-62s %12.1f %12.1f %8.2fx %5gx %s (%s, %s)\n", c.what, ours, theirs, ratio, c.goal, verdict, c.unit, best[strings.LastIndexByte(best, '/')+1:])
	}
	return nil
}

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(-\d+)?\s+\d+\s+(.*)$`)

// goBench runs this module's own benchmarks and returns the median of each of their figures, by name and unit.
func (b bench) goBench(pattern string) (map[string]float64, error) {
	cmd := exec.Command("go", "test", ".", "-run", "^$", "-bench", pattern, "-benchtime", b.benchtime, "-count", strconv.Itoa(b.count), "-cpu", "2")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	all := make(map[string][]float64)
	for line := range strings.Lines(string(text)) {
		m := benchLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		fields := strings.Fields(m[3])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				all[m[1]+" "+fields[i+1]] = append(all[m[1]+" "+fields[i+1]], v)
			}
		}
	}
	medians := make(map[string]float64, len(all))
	for key, values := range all {
		medians[key] = median(values)
	}
	return medians, nil
}
