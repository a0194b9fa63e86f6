// Benchmarks measures what a guarded call costs beside a bare one: both sides in one process, in interleaved rounds of random
// order, on one connection each, medians of all rounds. Only the ratios mean anything on another machine.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	quick := flag.Bool("quick", false, "fewer and shorter rounds")
	flag.Parse()
	b := bench{rounds: 9, calls: 12_800, callers: 64, count: 5, benchtime: "300ms"}
	if *quick {
		b.rounds, b.calls, b.count, b.benchtime = 5, 2560, 3, "50ms"
	}
	if err := run(b); err != nil {
		log.Fatal(err)
	}
}

func run(b bench) error {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
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
	if err := w.alone(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("\nlimits and breakers, medians of %d runs on two cores:\n\n", b.count)
	return b.controls(os.Stdout)
}
