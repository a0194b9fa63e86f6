package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/decision"
	"github.com/grpcguard/grpcguard/benchmarks/internal/latency"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/benchmarks/internal/scale"
	"github.com/grpcguard/grpcguard/benchmarks/internal/validation"
)

// bench says how much is measured, and with what.
type bench struct {
	quick bool
	// rounds are those that count, and turn is about how long a side has in each.
	rounds int
	turn   time.Duration
	// callers call at once, where a row does not say otherwise.
	callers int
	// verified is how many records a journal has that is verified.
	verified int
	// disk is for what is written while it is measured.
	disk *disk

	ends []func() error
}

// newBench returns the sizes of a whole run, or those of a quick one.
func newBench(quick bool, d *disk) *bench {
	b := &bench{rounds: 9, turn: 400 * time.Millisecond, callers: 64, verified: 300_000, disk: d}
	if quick {
		b.quick, b.rounds, b.turn, b.verified = true, 5, 40*time.Millisecond, 20_000
	}
	return b
}

// atEnd has end called when the subject is done with, before those that were given earlier.
func (b *bench) atEnd(end func() error) { b.ends = append(b.ends, end) }

func (b *bench) end() error {
	var errs []error
	for _, end := range slices.Backward(b.ends) {
		errs = append(errs, end())
	}
	b.ends = nil
	return errors.Join(errs...)
}

// subject is a part of the suite, which -only names. It has contests, or rows and plots that it measures itself, or both.
type subject struct {
	name string
	// contests are what is measured here, side beside side; their rows can be profiled.
	contests func(*bench) ([]contest, error)
	rows     func(*bench) ([]row.Row, []row.Plot, error)
	// alone says that it is measured in a process of its own, if there are others.
	alone bool
}

// subjects is the whole suite, in the order of the report.
var subjects = []subject{
	{name: "decision", rows: apart(decision.Rows)},
	{name: "core", rows: (*bench).core},
	{name: "validation", rows: apart(validation.Rows)},
	{name: "calls", contests: (*bench).calls},
	{name: "client", contests: (*bench).clientChain},
	{name: "glued", rows: (*bench).glued},
	{name: "streams", contests: (*bench).streams},
	{name: "throughput", contests: (*bench).throughput},
	{name: "latency", rows: latencyRows},
	{name: "refusals", contests: (*bench).refusals},
	{name: "scale", alone: true, rows: func(b *bench) ([]row.Row, []row.Plot, error) { return scale.Measure(b.quick) }},
	{name: "coldstart", contests: (*bench).coldStart},
	{name: "limiter", contests: (*bench).limiter, rows: (*bench).limiterMemory},
	{name: "breaker", contests: (*bench).breaker},
	{name: "redis", rows: (*bench).redis},
	{name: "records", contests: (*bench).records},
	{name: "verify", contests: (*bench).verify},
}

// apart is a subject whose package has rows, rounds and turns of its own.
func apart(measure func(quick bool) ([]row.Row, error)) func(*bench) ([]row.Row, []row.Plot, error) {
	return func(b *bench) ([]row.Row, []row.Plot, error) {
		rows, err := measure(b.quick)
		return rows, nil, err
	}
}

// latencyRows are percentiles of both sides, and lines of all of them.
func latencyRows(b *bench) ([]row.Row, []row.Plot, error) {
	f, err := latency.Measure(b.quick)
	if err != nil {
		return nil, nil, err
	}
	return f.Rows(), []row.Plot{f.Plot()}, nil
}

// chosen returns the subjects whose names are in the comma list only, in the suite's order; all of an empty list.
func chosen(only string) ([]subject, error) {
	if only == "" {
		return subjects, nil
	}
	var names []string
	for _, s := range subjects {
		names = append(names, s.name)
	}
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-only: there is no %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(subjects), func(s subject) bool { return !slices.Contains(wanted, s.name) }), nil
}

// measure returns the rows and plots of a subject. It ends what the subject has started.
func (s subject) measure(b *bench) (rows []row.Row, plots []row.Plot, err error) {
	defer func() { err = errors.Join(err, b.end()) }()
	if s.contests != nil {
		contests, err := s.contests(b)
		if err != nil {
			return nil, nil, err
		}
		for _, c := range contests {
			of, drawn, err := c.measure(b)
			if err != nil {
				return rows, plots, err
			}
			rows, plots = append(rows, of...), append(plots, drawn...)
		}
	}
	if s.rows != nil {
		of, drawn, err := s.rows(b)
		if err != nil {
			return rows, plots, err
		}
		rows, plots = append(rows, of...), append(plots, drawn...)
	}
	return rows, plots, nil
}
