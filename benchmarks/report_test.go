package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

func TestPrintRow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		row  row.Row
		want string
	}{
		"met": {
			row.Row{Name: "a call", Unit: "µs", Goal: 0.97, Ours: row.Figure{Values: []float64{1000, 1000, 1000}, Allocs: []float64{12}}, Theirs: row.Figure{Values: []float64{1100, 1200, 1150}, Allocs: []float64{10}}},
			"a call 1,000 1,150 1.15x (1.10..1.20) 0.97x met µs, +2.0",
		},
		"not met, or enough": {
			row.Row{Name: "a call", Unit: "calls/s", More: true, Goal: 2, Enough: 5000, Ours: row.Figure{Values: []float64{10, 10}}, Theirs: row.Figure{Values: []float64{10, 10}}},
			"a call 10.0 10.0 1.00x (1.00..1.00) 2x or 5,000 not met calls/s",
		},
		"too noisy": {
			row.Row{Name: "a call", Unit: "µs", Goal: 1, Ours: row.Figure{Values: []float64{10, 10}}, Theirs: row.Figure{Values: []float64{5, 25}}},
			"a call 10.0 15.0 1.50x (0.50..2.50) 1x too noisy to say µs",
		},
		"beside nothing": {
			row.Row{Name: "a decision", Unit: "ns", Ours: row.Figure{Values: []float64{90, 91, 95}, Allocs: []float64{0}}},
			"a decision 91.0 (90.0..95.0) ns, 0.0",
		},
		"enough, where less is better": {
			row.Row{Name: "memory", Unit: "bytes", Enough: 2048, Ours: row.Figure{Values: []float64{1000, 1000, 1010}}}, "memory 1,000 (1,000..1,010) ≤2,048 met bytes",
		},
		"too much": {
			row.Row{Name: "memory", Unit: "bytes", Enough: 200, Ours: row.Figure{Values: []float64{-1000, 1000, 1010}}}, "memory 1,000 (-1,000..1,010) ≤200 too noisy to say bytes",
		},
		"nothing": {row.Row{Name: "a call", Unit: "ns"}, "a call - ns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			printRow(&out, &tt.row)
			if got := strings.Join(strings.Fields(out.String()), " "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0.00", 0.974: "0.97", 9.999: "10.00", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567", -1234: "-1,234", math.Inf(1): "-"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// made is a report of one group with a curve, and of one without ratios.
func made() *report {
	return &report{
		Machine: machine{
			CPU: "A processor | of 2026", Cores: 2, GOMAXPROCS: 2, Memory: "7.8 GiB", Kernel: "6.1", System: "linux/amd64", Go: "go1.26", GRPC: "1.85.0", Disk: "ext4",
			LoadAtStart: "0.1 0.2 0.3", LoadAtEnd: "2.0 1.0 0.5",
		},
		Rounds: 2, Turn: time.Second, Quick: true,
		Rows: []row.Row{
			{
				Group: "Calls", Name: "a call", Unit: "calls/s", More: true, Goal: 0.9, Note: "one connection",
				Ours: row.Figure{Name: "ours", Values: []float64{98, 98}, Allocs: []float64{3, 3}}, Theirs: row.Figure{Name: "bare", Values: []float64{100, 100}, Allocs: []float64{1, 1}},
			},
			{
				Group: "Calls", Name: "a call | of many", Unit: "calls/s", More: true, Goal: 99, Note: "one connection",
				Ours: row.Figure{Name: "ours", Values: []float64{80, 80}}, Theirs: row.Figure{Name: "bare", Values: []float64{100, 100}},
			},
			{Group: "Parts", Name: "a decision", Unit: "ns", Ours: row.Figure{Name: "ours", Values: []float64{90, 90}}},
		},
		Plots: []row.Plot{{Group: "Calls", Title: "Callers", X: "callers", Unit: "calls/s", Lines: []row.Line{
			{Name: "ours", Points: []row.Point{{X: 512, Y: 80}, {X: 1, Y: 98}}}, {Name: "bare", Points: []row.Point{{X: 1, Y: 100}, {X: 512, Y: 100}}}, {Name: "none"},
		}}},
		NotMeasured: []string{"redis: there is none"},
	}
}

const golden = `# What grpcguard costs beside others

Medians of 2 interleaved rounds of about 1s a side, in random order; decisions, validation, what is assembled by hand,
latency and scale have rounds of their own. A ratio of more than 1 is better than theirs; only ratios mean anything on
another machine. A goal that is nearer than the middle half of the rounds is wide is too noisy to say.

This is a quick run: fewer rounds, shorter ones, and not all that is compared.

3 rows; of the goals 1 are met, 1 not met, 0 too noisy to say; 1 subjects could not be measured.

| | |
|---|---|
| Processor | A processor \| of 2026, 2 cores, GOMAXPROCS 2 |
| Memory | 7.8 GiB |
| System | linux/amd64, kernel 6.1 |
| Versions | go1.26, grpc-go 1.85.0 |
| Disk of the records | ext4 |
| Load averages | 0.1 0.2 0.3 at the start, 2.0 1.0 0.5 at the end |

## Calls

| | ours | theirs | ratio (min..max) | goal | | unit | allocations more |
|---|--:|--:|--:|--:|---|---|--:|
| 1. a call [1] | 98.0 | 100 | 0.98x (0.98..0.98) | 0.9x | met | calls/s | +2.0 |
| 2. a call \| of many [1] | 80.0 | 100 | 0.80x (0.80..0.80) | 99x | not met | calls/s |  |

- [1] one connection.

![Calls: ratios](calls-ratios.svg)

![Callers](callers.svg)

## Parts

| | ours | theirs | ratio (min..max) | goal | | unit | allocations more |
|---|--:|--:|--:|--:|---|---|--:|
| 1. a decision | 90.0 |  | (90.0..90.0) |  |  | ns |  |

## Not measured

` + "```\nredis: there is none\n```\n"

func TestReport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "report")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "earlier.svg"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := made()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil || string(text) != golden {
		t.Errorf("%v\n%s", err, text)
	}
	plots, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(plots) != 2 {
		t.Errorf("plots: %v, %v", plots, err)
	}
	for _, path := range plots {
		if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("<svg")) {
			t.Errorf("%s: %v, %d bytes", path, err, len(text))
		}
	}
	var read struct {
		Rows []jsonRow `json:"rows"`
	}
	text, err = os.ReadFile(filepath.Join(dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	if err != nil || len(read.Rows) != 3 {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := read.Rows[1]; got.Verdict != "not met" || got.Ratio == nil || *got.Ratio != 0.8 || got.Ours.Median != 80 {
		t.Errorf("%+v", got)
	}
	if got := read.Rows[2]; got.Theirs != nil || got.Ratio != nil || got.Verdict != "" {
		t.Errorf("%+v", got)
	}
	if r.missed() != 1 {
		t.Errorf("%d are missed", r.missed())
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	m := thisMachine("ext4")
	if m.Cores < 1 || m.GOMAXPROCS < 1 || m.Disk != "ext4" || !strings.HasPrefix(m.Go, "go") || m.GRPC == "" {
		t.Errorf("%+v", m)
	}
	for _, fact := range []string{m.CPU, m.Memory, m.Kernel, m.LoadAtStart} {
		if fact == "" {
			t.Errorf("a fact is empty: %+v", m)
		}
	}
	for text, want := range map[string]string{"8388608 kB": "8.0 GiB", "": "unknown", "much": "unknown"} {
		if got := memory(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
