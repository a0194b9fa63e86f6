package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
)

// kept is a row of what keeping records costs beside something else that does the same, or less.
type kept struct {
	what, unit string
	// ours and theirs have a figure a round; ratios are more than 1 where ours is better.
	ours, theirs, ratios []float64
	// goal is what the median ratio must reach, and enough what ours may reach instead; 0 where there is none.
	goal, enough float64
}

func printHeader(out io.Writer) {
	fmt.Fprintf(out, "%-76s %11s %11s %8s %15s %6s\n", "", "ours", "theirs", "ratio", "(min..max)", "goal")
}

func (k kept) print(out io.Writer) {
	goal, verdict := "", ""
	ratio, ours := median(k.ratios), median(k.ours)
	if k.goal > 0 {
		goal, verdict = fmt.Sprintf("%.2fx", k.goal), "not met"
		if ratio >= k.goal || k.enough > 0 && ours >= k.enough {
			verdict = "met"
		}
	}
	if k.enough > 0 {
		verdict += fmt.Sprintf(", or %.0f", k.enough)
	}
	fmt.Fprintf(out, "%-76s %11.1f %11.1f %7.2fx %15s %6s %s (%s)\n", k.what, ours, median(k.theirs), ratio,
		fmt.Sprintf("(%.2f..%.2f)", slices.Min(k.ratios), slices.Max(k.ratios)), goal, verdict, k.unit)
}

// records measures what it costs to keep records, and prints a row each.
func (b bench) records(d *disk, out io.Writer) error {
	fmt.Fprintf(out, "records of %d bytes on %s, medians of %d interleaved rounds, each of %v a side:\n\n", len(encoded), d.system, b.rounds, b.turn)
	printHeader(out)
	for _, rows := range []func(*disk) ([]kept, error){
		b.oneCaller,
		b.manyCallers,
		b.transfers,
		b.verify,
	} {
		list, err := rows(d)
		if err != nil {
			return err
		}
		for _, row := range list {
			row.print(out)
		}
	}
	return nil
}

// oneCaller is how long one record takes when nobody shares its fsync.
func (b bench) oneCaller(d *disk) ([]kept, error) {
	speeds, err := b.appends(d, 1, newSinkAppender, newEach)
	if err != nil {
		return nil, err
	}
	return []kept{{
		what: "a durable record, 1 caller, beside a write and fdatasync of the same bytes", unit: "µs",
		ours: times(speeds[0]), theirs: times(speeds[1]), ratios: quotients(speeds[0], speeds[1]), goal: 0.5,
	}}, nil
}

func (b bench) manyCallers(d *disk) ([]kept, error) {
	const callers = 512
	const per = "records/s"
	makers := []func(*disk) (*appender, error){newSinkAppender, newGroup, newEach}
	if b.tessera {
		makers = append(makers, newTessera("tessera", tessera.NewAppendOptions()),
			newTessera("tessera tuned", tessera.NewAppendOptions().WithBatching(256, 10*time.Millisecond)))
	}
	speeds, err := b.appends(d, callers, makers...)
	if err != nil {
		return nil, err
	}
	rows := []kept{
		{what: "durable records, 512 callers, beside a bare group commit of the same bytes", goal: 0.9, enough: 100_000},
		{what: "the same beside one fdatasync a record"},
		{what: "the same beside tessera's Add on the same disk, its defaults"},
		{what: "the same beside tessera's Add, batches of 256 and 10 ms"},
	}[:len(makers)-1]
	for i := range rows {
		rows[i].unit, rows[i].ours, rows[i].theirs = per, speeds[0], speeds[i+1]
		rows[i].ratios = quotients(speeds[0], speeds[i+1])
	}
	return rows, nil
}

// appends returns how many records a second callers together make durable, with each of the appenders and in each round.
func (b bench) appends(d *disk, callers int, makers ...func(*disk) (*appender, error)) (speeds [][]float64, err error) {
	appenders, err := open(d, makers...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll(appenders)) }()
	speeds = make([][]float64, len(appenders))
	for round := range b.rounds + 1 {
		for _, i := range rand.Perm(len(appenders)) {
			speed, err := turn(appenders[i], callers, b.turn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", appenders[i].name, err)
			}
			if round > 0 { // The first warms up.
				speeds[i] = append(speeds[i], speed)
			}
		}
	}
	return speeds, nil
}

// turn returns how many records a second became durable within a time, or within the longer one that the first of them takes. Those under
// way when it is over do not count.
func turn(a *appender, callers int, long time.Duration) (float64, error) {
	var done, failed atomic.Int64
	var over atomic.Bool
	var group sync.WaitGroup
	errs := make(chan error, callers)
	some := make(chan struct{})
	first := sync.OnceFunc(func() { close(some) })
	began := time.Now()
	for range callers {
		group.Go(func() {
			for !over.Load() && failed.Load() == 0 {
				if err := a.add(); err != nil {
					failed.Add(1)
					errs <- err
					first()
					return
				}
				done.Add(1)
				first()
			}
		})
	}
	time.Sleep(long)
	<-some
	speed := float64(done.Load()) / time.Since(began).Seconds()
	over.Store(true)
	group.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return speed, a.settle()
	}
}

// quotients returns a/b, round by round.
func quotients(a, b []float64) []float64 {
	q := make([]float64, len(a))
	for i := range q {
		q[i] = a[i] / b[i]
	}
	return q
}

// times returns the microseconds of one, where speeds are those in a second.
func times(speeds []float64) []float64 {
	t := make([]float64, len(speeds))
	for i := range t {
		t[i] = 1e6 / speeds[i]
	}
	return t
}
