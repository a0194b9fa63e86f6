package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// measureAlone measures a subject in a process of its own, which is this program with that subject and nothing else. What others have
// left behind, and is collected one minute or the next, is memory that would be taken off its own.
func (s subject) measureAlone(b *bench) (rows []row.Row, plots []row.Plot, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "benchmarks-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := []string{"-only", s.name, "-out", dir, "-dir", b.disk.dir}
	if b.quick {
		args = append(args, "-quick")
	}
	if text, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("%w\n%s", err, text)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, nil, err
	}
	return rowsOf(text)
}

// rowsOf reads rows and plots from a report.json. It knows no allocations of either side alone.
func rowsOf(text []byte) ([]row.Row, []row.Plot, error) {
	var of struct {
		Rows  []jsonRow  `json:"rows"`
		Plots []row.Plot `json:"plots"`
	}
	if err := json.Unmarshal(text, &of); err != nil {
		return nil, nil, err
	}
	rows := make([]row.Row, len(of.Rows))
	for i, r := range of.Rows {
		rows[i] = row.Row{
			Group: r.Group, Name: r.Name, Unit: r.Unit, More: r.More, Goal: r.Goal, Enough: r.Enough, Note: r.Note,
			Ours: row.Figure{Name: r.Ours.Name, Values: r.Ours.Values},
		}
		if r.Theirs != nil {
			rows[i].Theirs = row.Figure{Name: r.Theirs.Name, Values: r.Theirs.Values}
		}
	}
	return rows, of.Plots, nil
}
