package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/grpcguard/grpcguard/benchmarks/coldstart"
	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

// coldStart is the time from the start of a process to its first answer, guarded and bare: two programs that differ in the guard alone.
func (b *bench) coldStart() ([]contest, error) {
	dir, err := os.MkdirTemp("", "coldstart-")
	if err != nil {
		return nil, err
	}
	b.atEnd(func() error { return os.RemoveAll(dir) })
	if text, err := exec.Command("go", "build", "-o", dir, "./coldstart/bare", "./coldstart/guarded").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the programs: %w\n%s", err, text)
	}
	var c contest
	for _, methods := range []int{1, 500} {
		name := func(kind string) string { return fmt.Sprintf("%s, %d methods", kind, methods) }
		for _, kind := range []string{"bare", "guarded"} {
			c.sides = append(c.sides, side{Side: row.Side{Name: name(kind), Run: starting(filepath.Join(dir, kind), methods)}})
		}
		c.lines = append(c.lines, line{
			Row: row.Row{
				Group: "Cold start", Name: fmt.Sprintf("a process to its first answer, methods with a rule: %d, beside bare", methods), Unit: "ms",
				Note: "from the start of the process to its end, right after it has printed the answer: identities are made by an authority inside of it, mutual TLS on loopback, " +
					"one call; the guarded one makes its descriptors, which generated code would bring, and compiles its policy",
			},
			ours: []string{name("guarded")}, theirs: []string{name("bare")}, value: wallMillis, uncounted: true,
		})
	}
	return []contest{c}, nil
}

// starting returns a Run that starts the program n times, one after the other.
func starting(program string, methods int) func(int) error {
	return func(n int) error {
		for range n {
			text, err := exec.Command(program, strconv.Itoa(methods)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", program, err, text)
			}
			if string(text) != coldstart.Answer {
				return fmt.Errorf("%s answered %q, and not %q", program, text, coldstart.Answer)
			}
		}
		return nil
	}
}
