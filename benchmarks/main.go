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
	b := bench{rounds: 9, calls: 12_800, callers: 64}
	if *quick {
		b.rounds, b.calls = 5, 2560
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
	return w.alone(os.Stdout)
}
