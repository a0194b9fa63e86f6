package main

import (
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

const (
	recordsGroup    = "Records"
	syncEach        = "a write and an fdatasync each"
	bareGroupCommit = "a bare group commit"
)

// records is what it costs to make records durable, beside others that do so, or less.
func (b *bench) records() ([]contest, error) {
	alone, err := b.appends(1, newSinkAppender, newEach)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("a record of %d bytes; ours encodes, sums, writes, syncs and hashes it and signs checkpoints, the other writes bytes that were encoded before; on %s", len(encoded), b.disk.system)
	alone.lines = []line{appendLine(alone, 1, line{Row: row.Row{Name: "a durable record, 1 caller", Unit: "µs", Goal: 0.5, Note: note}, value: wallMicros})}
	makers := []func(*disk) (*appender, error){newSinkAppender, newGroup, newEach}
	if !b.quick { // Tessera takes long to close.
		makers = append(makers, newTessera("tessera's Add, its defaults", tessera.NewAppendOptions()),
			newTessera("tessera's Add, batches of 256 and 10 ms", tessera.NewAppendOptions().WithBatching(256, 10*time.Millisecond)))
	}
	many, err := b.appends(512, makers...)
	if err != nil {
		return nil, err
	}
	for i := range many.sides[1:] {
		l := line{Row: row.Row{Name: "durable records, 512 callers", Unit: "records/s", More: true, Note: note}, value: perSecond}
		if many.sides[i+1].Name == bareGroupCommit {
			l.Goal, l.Enough = 0.9, 100_000
		}
		many.lines = append(many.lines, appendLine(many, i+1, l))
	}
	return []contest{alone, many}, nil
}

// appendLine is of the first side beside another.
func appendLine(c contest, theirs int, l line) line {
	l.Group = recordsGroup
	l.Name += ", beside " + c.sides[theirs].Name
	l.ours, l.theirs, l.uncounted = []string{c.sides[0].Name}, []string{c.sides[theirs].Name}, true
	return l
}

// appends is a contest of appenders, with so many callers at once. What an appender leaves to others after it has answered is waited
// for, and not measured.
func (b *bench) appends(callers int, makers ...func(*disk) (*appender, error)) (contest, error) {
	appenders, err := open(b.disk, makers...)
	if err != nil {
		return contest{}, err
	}
	b.atEnd(func() error { return closeAll(appenders) })
	var c contest
	for _, a := range appenders {
		c.sides = append(c.sides, side{Side: row.Side{Name: a.name, Least: callers, Run: shared(callers, a.add), Settle: a.settle}})
	}
	return c, nil
}
