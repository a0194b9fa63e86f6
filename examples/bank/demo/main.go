// Demo is a day at the bank: it starts the services, each a process with an SVID of its own from a real SPIFFE Workload API and a
// journal of its own, does the day's business, kills a service in the middle of it, proves what the journals say, attacks services and
// journals in every way it knows, rotates all identities under load, and prints call by call who did what, what came of it and why. Its
// exit code is 0 only if everything came out as expected.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	short := flag.Bool("short", false, "keep the load short")
	stay := flag.Bool("stay", false, "leave the bank running after the day, until it is interrupted")
	dir := flag.String("bank", "bank", "the `folder` of the bank's sources")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	load := 5 * time.Second
	if *short {
		load = 2 * time.Second
	}
	ok, err := run(ctx, *dir, load, *stay)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

// run plays the day and reports whether all went as expected.
func run(ctx context.Context, sources string, load time.Duration, stay bool) (ok bool, err error) {
	// Socket paths are short, or they do not work.
	dir, err := os.MkdirTemp("", "bank")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	sources, err = filepath.Abs(sources)
	if err != nil {
		return false, err
	}
	b, err := open(ctx, dir, sources)
	if err != nil {
		return false, err
	}
	defer b.close()
	day := &day{bank: b, table: newTable(os.Stdout)}
	for _, part := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Business", day.business},
		{"A ledger killed in the middle of it", day.killed},
		{"Proof", day.proof},
		{"Who may call what", day.callers},
		{"Identities that are none", day.identities},
		{"Bad messages", day.messages},
		{"Tricks with methods", day.paths},
		{"Wearing the bank out", day.limits},
		{"When account-service fails", day.failure},
		{"Rotation under load", func(ctx context.Context) error { return day.rotation(ctx, load) }},
		{"Evidence", day.evidence},
	} {
		day.table.title(part.title)
		if err := part.play(ctx); err != nil {
			return false, fmt.Errorf("%s: %w", part.title, err)
		}
	}
	ok = day.table.end()
	if stay {
		err = b.stay(ctx, os.Stdout)
	}
	return ok, err
}
