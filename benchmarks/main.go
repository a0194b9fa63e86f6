// Benchmarks is the perf suite: what a guarded call costs beside a bare one, and each control beside what a user would pick instead. Both
// sides of a row do the same work in one process, in interleaved rounds of random order. Only the ratios mean anything on another
// machine. It prints a line a row, and writes report.md, report.json and plots.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
)

// options are what the command line says.
type options struct {
	quick, strict, profiling bool
	only, dir, out           string
	profile                  string
}

func main() {
	log.SetFlags(0)
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2) // The flag package has said what is wrong.
	}
	missed, err := run(o, os.Stdout)
	if err != nil {
		log.Fatal(err)
	}
	if missed > 0 && o.strict {
		log.Fatalf("%d goals are not met", missed)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.quick, "quick", false, "fewer and shorter rounds, and without tessera")
	flags.BoolVar(&o.strict, "strict", false, "exit with 1 if a goal is not met; one that is too noisy to say is not missed")
	flags.StringVar(&o.only, "only", "", "a comma list of subjects: measure nothing else")
	flags.StringVar(&o.dir, "dir", "", "a folder on the disk for records; the working folder if empty")
	flags.StringVar(&o.out, "out", "report", "the folder for the report")
	flags.StringVar(&o.profile, "profile", "", "a row, or a part of its name: measure nothing, and leave profiles of our side of it; rows are listed if there is no such")
	err := flags.Parse(args)
	flags.Visit(func(f *flag.Flag) { o.profiling = o.profiling || f.Name == "profile" })
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is no flag", flags.Arg(0))
		fmt.Fprintln(stderr, err)
	}
	return o, err
}

// run measures, prints and writes, and returns how many goals are not met. What cannot be measured is an error, after all else was.
func run(o options, out io.Writer) (missed int, err error) {
	list, err := chosen(o.only)
	if err != nil {
		return 0, err
	}
	d, err := newDisk(o.dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	b := newBench(o.quick, d)
	if o.profiling {
		b.turn = profileTurn // Quick or not, a profile needs its samples.
		return 0, b.profile(list, o.profile, o.out, out)
	}
	rep := report{Machine: thisMachine(d.system), Rounds: b.rounds, Turn: b.turn, Quick: b.quick}
	fmt.Fprintf(out, "%d rounds of about %v a side, and one that does not count\n", b.rounds, b.turn)
	var errs []error
	group := ""
	for _, s := range list {
		measure := s.measure
		if s.alone && len(list) > 1 {
			measure = s.measureAlone
		}
		rows, plots, err := measure(b)
		for _, r := range rows {
			if r.Group != group {
				group = r.Group
				printHeader(out, group)
			}
			printRow(out, &r)
		}
		rep.Rows, rep.Plots = append(rep.Rows, rows...), append(rep.Plots, plots...)
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			errs = append(errs, err)
			rep.NotMeasured = append(rep.NotMeasured, err.Error())
			fmt.Fprintf(out, "could not be measured: %v\n", err)
		}
	}
	rep.Machine.LoadAtEnd = load()
	if err := rep.write(o.out); err != nil {
		errs = append(errs, err)
	} else {
		fmt.Fprintf(out, "\n%s\nwritten to %s/report.md and report.json\n", rep.summary(), o.out)
	}
	return rep.missed(), errors.Join(errs...)
}
