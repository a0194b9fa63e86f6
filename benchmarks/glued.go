package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/grpcguard/grpcguard/benchmarks/internal/glued"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// glued is what the controls add to a call beside the same assembled by hand: whole calls first, and then the interceptors alone.
func (b *bench) glued() ([]row.Row, []row.Plot, error) {
	rows, err := glued.Rows(b.quick)
	if err != nil {
		return nil, nil, err
	}
	alone, err := b.chainsAlone()
	if err != nil {
		return rows, nil, err
	}
	return append(rows, *alone), nil, nil
}

// chainsAlone is the interceptors of both ends, called in process. Ours are in packages that cannot be reached from here, and are
// measured by their own benchmarks.
func (b *bench) chainsAlone() (*row.Row, error) {
	turn := min(b.turn, 300*time.Millisecond)
	figures, err := goTest("..", "^Benchmark(Chain|ContextAlone|ClientChain)$", b.rounds, turn, "-cpu", "1", "./interceptors")
	if err != nil {
		return nil, err
	}
	ours := row.Figure{Name: "grpcguard"}
	for unit, to := range map[string]*[]float64{" ns/op": &ours.Values, " allocs/op": &ours.Allocs} {
		server, client := figures["Chain"+unit], figures["ClientChain"+unit]
		if len(server) != b.rounds || len(client) != b.rounds {
			return nil, fmt.Errorf("the chains were measured %d and %d times, and not %d", len(server), len(client), b.rounds)
		}
		*to = minus(server, figures["ContextAlone"+unit])
		for i := range *to {
			(*to)[i] += client[i]
		}
	}
	// With one processor, collecting garbage is in the time of who made it.
	processors := runtime.GOMAXPROCS(1)
	theirs, err := glued.Chains(b.rounds, turn)
	runtime.GOMAXPROCS(processors)
	if err != nil {
		return nil, err
	}
	return &row.Row{
		Group: glued.Group, Name: "added cost of the chains alone, both ends: identity, callers, breaker, deadline", Unit: "ns", Goal: 3,
		Ours: ours, Theirs: row.Figure{Name: "assembled by hand", Values: theirs.Wall, Allocs: theirs.Allocs},
		Note: "in process, without a network, tracing off, one call after the other and GOMAXPROCS 1, so that it is processor time with that of collecting garbage: interceptors around what does nothing. Ours is go test's BenchmarkChain, which has the tap " +
			"and a record that is discarded, less BenchmarkContextAlone, plus BenchmarkClientChain; theirs is its chains by themselves, over the context of a call that was served. The two are not " +
			"interleaved. Their messages differ, and have no rules; neither side has a limit, since the method of our benchmark has none",
	}, nil
}
