package glued

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// repeats are how often a call runs through the same chain.
var repeats = []int{1, 11, 21}

// slopes measures the interceptors of the clients in place: each call runs through the whole chain once, 11 times or 21 times, against
// one bare server, and what a chain costs is the slope. Each passage makes all that the first makes: a Call of its own and a ticket of the
// breaker, or a look at the deadline and an Execute.
//
// There is one caller. With many, chains that are 21 times as long change how calls meet: breakers' locks make them come in flocks, whose
// frames share system calls, and the slope of the stack came out below zero.
//
// Of grpcguard's server this cannot be had. Its interceptor takes up the one Call that the tap made, and a second one finds
// it taken.
func (w *World) slopes(rounds int, turn time.Duration) (row.Row, error) {
	_, guarded, err := w.guardedOptions(false, Controls, nil)
	if err != nil {
		return row.Row{}, err
	}
	_, stack, err := w.gluedOptions(false, Controls, nil)
	if err != nil {
		return row.Row{}, err
	}
	var sides []row.Side
	for _, of := range []struct {
		name string
		dial []grpc.DialOption
	}{{"guarded", guarded}, {"glued", stack}} {
		for _, k := range repeats {
			c, err := w.toBare(slices.Repeat(of.dial, k))
			if err != nil {
				return row.Row{}, err
			}
			sides = append(sides, sideOf(fmt.Sprintf("%s client, %d times", of.name, k), c, false, 1))
		}
	}
	m, err := row.Interleave(rounds, turn, sides...)
	if err != nil {
		return row.Row{}, err
	}
	n := len(repeats)
	r := row.Row{
		Group: group, Name: "CPU of the client's interceptors alone: deadline and breaker", Unit: "ns",
		Ours:   row.Figure{Name: "grpcguard", Values: slopesOf(m[:n], cpu), Allocs: slopesOf(m[:n], allocs)},
		Theirs: row.Figure{Name: "assembled by hand", Values: slopesOf(m[n:], cpu), Allocs: slopesOf(m[n:], allocs)},
	}
	r.Note = "the slope of calls that run through the chain 1, 11 and 21 times, from one caller; theirs makes no record and looks at no size and no response, ours fills " +
		"a record that is discarded; a server's chain cannot be repeated, see its rows above" + doubt(&r)
	return r, nil
}

func cpu(m *row.Measured) []float64    { return m.CPU }
func allocs(m *row.Measured) []float64 { return m.Allocs }

// slopesOf returns, for each round, the slope of the least squares of what m has over the repeats.
func slopesOf(m []row.Measured, of func(*row.Measured) []float64) []float64 {
	mean := 0.0
	for _, k := range repeats {
		mean += float64(k) / float64(len(repeats))
	}
	slopes := make([]float64, len(of(&m[0])))
	for round := range slopes {
		var up, across float64
		for i, k := range repeats {
			d := float64(k) - mean
			up += d * of(&m[i])[round]
			across += d * d
		}
		slopes[round] = up / across
	}
	return slopes
}
