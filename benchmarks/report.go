package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// report is all that a run came to.
type report struct {
	Machine     machine
	Rounds      int
	Turn        time.Duration
	Quick       bool
	Rows        []row.Row
	Plots       []row.Plot
	NotMeasured []string
}

func (r *report) missed() int { return r.count(row.NotMet) }

func (r *report) count(v row.Verdict) int {
	n := 0
	for i := range r.Rows {
		if r.Rows[i].Verdict() == v {
			n++
		}
	}
	return n
}

func (r *report) summary() string {
	return fmt.Sprintf("%d rows; of the goals %d are met, %d not met, %d too noisy to say; %d subjects could not be measured",
		len(r.Rows), r.count(row.Met), r.count(row.NotMet), r.count(row.TooNoisy), len(r.NotMeasured))
}

// groups are the headings in the order of the rows, each with its rows.
func (r *report) groups() (names []string, rows map[string][]*row.Row) {
	rows = make(map[string][]*row.Row)
	for i := range r.Rows {
		of := &r.Rows[i]
		if rows[of.Group] == nil {
			names = append(names, of.Group)
		}
		rows[of.Group] = append(rows[of.Group], of)
	}
	return names, rows
}

// write writes report.md, report.json and the plots into a folder. Plots of an earlier report are removed.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	encoded, err := r.json()
	if err != nil {
		return err
	}
	text, err := r.markdown(dir)
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "report.json"), encoded, 0o644), os.WriteFile(filepath.Join(dir, "report.md"), []byte(text), 0o644))
}

// markdown returns the text of the report, and draws its plots into dir.
func (r *report) markdown(dir string) (string, error) {
	t := new(strings.Builder)
	m := r.Machine
	fmt.Fprintf(t, "# What grpcguard costs beside others\n\n")
	fmt.Fprintf(t, "Medians of %d interleaved rounds of about %v a side, in random order; decisions, validation, what is assembled by hand,\n", r.Rounds, r.Turn)
	fmt.Fprintf(t, "latency and scale have rounds of their own. A ratio of more than 1 is better than theirs; only ratios mean anything on\n")
	fmt.Fprintf(t, "another machine. A goal that is nearer than the middle half of the rounds is wide is too noisy to say.\n\n")
	if r.Quick {
		fmt.Fprintf(t, "This is a quick run: fewer rounds, shorter ones, and not all that is compared.\n\n")
	}
	fmt.Fprintf(t, "%s.\n\n| | |\n|---|---|\n", r.summary())
	for _, f := range [][2]string{
		{"Processor", fmt.Sprintf("%s, %d cores, GOMAXPROCS %d", m.CPU, m.Cores, m.GOMAXPROCS)}, {"Memory", m.Memory},
		{"System", m.System + ", kernel " + m.Kernel}, {"Versions", m.Go + ", grpc-go " + m.GRPC}, {"Disk of the records", m.Disk},
		{"Load averages", m.LoadAtStart + " at the start, " + m.LoadAtEnd + " at the end"},
	} {
		fmt.Fprintf(t, "| %s | %s |\n", f[0], cell(f[1]))
	}
	names, rows := r.groups()
	for _, name := range names {
		fmt.Fprintf(t, "\n## %s\n\n", name)
		if err := r.writeGroup(t, dir, name, rows[name]); err != nil {
			return "", err
		}
	}
	if len(r.NotMeasured) > 0 {
		fmt.Fprintf(t, "\n## Not measured\n\n")
		for _, text := range r.NotMeasured {
			fmt.Fprintf(t, "```\n%s\n```\n", text)
		}
	}
	return t.String(), nil
}

func (r *report) writeGroup(t *strings.Builder, dir, name string, rows []*row.Row) error {
	fmt.Fprintf(t, "| | ours | theirs | ratio (min..max) | goal | | unit | allocations more |\n|---|--:|--:|--:|--:|---|---|--:|\n")
	var notes []string
	for i, of := range rows {
		c := cellsOf(of)
		mark := ""
		if of.Note != "" {
			at := slices.Index(notes, of.Note)
			if at < 0 {
				at, notes = len(notes), append(notes, of.Note)
			}
			mark = fmt.Sprintf(" [%d]", at+1)
		}
		fmt.Fprintf(t, "| %d. %s%s | %s | %s | %s | %s | %s | %s | %s |\n",
			i+1, cell(of.Name), mark, c.ours, c.theirs, strings.TrimSpace(c.ratio+" "+c.spread), c.goal, of.Verdict(), cell(c.unit), c.allocs)
	}
	if len(notes) > 0 {
		fmt.Fprintln(t)
	}
	for i, note := range notes {
		fmt.Fprintf(t, "- [%d] %s.\n", i+1, note)
	}
	plots, err := drawGroup(dir, name, rows, r.Plots)
	for _, p := range plots {
		fmt.Fprintf(t, "\n![%s](%s)\n", p.title, p.file)
	}
	return err
}

// cell keeps text inside of a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// jsonRow is a row of report.json. Medians and ratios that there are none of are left out.
type jsonRow struct {
	Group      string    `json:"group"`
	Name       string    `json:"name"`
	Unit       string    `json:"unit"`
	More       bool      `json:"more_is_better"`
	Ours       jsonSide  `json:"ours"`
	Theirs     *jsonSide `json:"theirs,omitempty"`
	Ratio      *float64  `json:"ratio,omitempty"`
	Ratios     []float64 `json:"ratios,omitempty"`
	Goal       float64   `json:"goal,omitempty"`
	Enough     float64   `json:"enough,omitempty"`
	Verdict    string    `json:"verdict,omitempty"`
	MoreAllocs *float64  `json:"allocations_more,omitempty"`
	Note       string    `json:"note,omitempty"`
}

// jsonSide is one side of it.
type jsonSide struct {
	Name   string    `json:"name"`
	Median float64   `json:"median"`
	Values []float64 `json:"values"`
}

func (r *report) json() ([]byte, error) {
	out := struct {
		Machine     machine    `json:"machine"`
		Rounds      int        `json:"rounds"`
		Quick       bool       `json:"quick"`
		Rows        []jsonRow  `json:"rows"`
		Plots       []row.Plot `json:"plots,omitempty"`
		NotMeasured []string   `json:"not_measured,omitempty"`
	}{r.Machine, r.Rounds, r.Quick, make([]jsonRow, len(r.Rows)), r.Plots, r.NotMeasured}
	for i := range r.Rows {
		of := &r.Rows[i]
		j := jsonRow{Group: of.Group, Name: of.Name, Unit: of.Unit, More: of.More, Ours: sideOf(of.Ours), Goal: of.Goal, Enough: of.Enough, Verdict: string(of.Verdict()), Note: of.Note}
		if ratios := finite(of.Ratios()); len(ratios) > 0 {
			theirs, ratio := sideOf(of.Theirs), row.Median(ratios)
			j.Theirs, j.Ratio, j.Ratios = &theirs, &ratio, ratios
		}
		if more, counted := of.MoreAllocs(); counted {
			j.MoreAllocs = &more
		}
		out.Rows[i] = j
	}
	return json.MarshalIndent(out, "", "\t")
}

func sideOf(f row.Figure) jsonSide {
	values := finite(f.Values)
	return jsonSide{f.Name, row.Median(values), values}
}

// finite leaves out what JSON has no number for.
func finite(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}
