// Benchmarks measures what a guarded call costs beside a bare one: both sides in one process, in interleaved rounds of random
// order, on one connection each, medians of all rounds. Only the ratios mean anything on another machine.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "fewer and shorter rounds, and without tessera")
	only := flag.String("only", "", "calls, controls or records: measure nothing else")
	dir := flag.String("dir", "", "a folder on the disk for records; the working folder if empty")
	flag.Parse()
	b := bench{rounds: 9, calls: 12_800, callers: 64, count: 5, benchtime: "300ms", turn: time.Second, tessera: true, verified: 300_000}
	if *quick {
		b.rounds, b.calls, b.count, b.benchtime = 5, 2560, 3, "50ms"
		b.turn, b.tessera, b.verified = 250*time.Millisecond, false, 100_000
	}
	if err := run(b, *only, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(b bench, only, dir string) error {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	parts := []struct {
		name string
		run  func() error
	}{
		{"calls", func() error { return b.guardedCalls(w) }},
		{"controls", func() error {
			fmt.Printf("\nlimits and breakers, medians of %d runs on two cores:\n\n", b.count)
			return b.controls(os.Stdout)
		}},
		{"records", func() error { return b.keptRecords(dir) }},
	}
	known := only == ""
	for _, part := range parts {
		if only != "" && only != part.name {
			continue
		}
		known = true
		if err := part.run(); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("-only %s: there is no such part", only)
	}
	return nil
}

func (b bench) guardedCalls(w *world) error {
	sides, err := w.sides()
	if err != nil {
		return err
	}
	results, err := b.measure(sides)
	if err != nil {
		return err
	}
	fmt.Printf("%d callers, 1 connection a side, %d rounds of %d calls (client and server in this process)\n\n", b.callers, b.rounds, b.calls)
	report(os.Stdout, results)
	fmt.Printf("\nthe decision and the chain alone:\n\n")
	return w.alone(os.Stdout)
}

func (b bench) keptRecords(dir string) (err error) {
	d, err := newDisk(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	fmt.Println()
	return b.records(d, os.Stdout)
}
