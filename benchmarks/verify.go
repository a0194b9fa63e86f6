package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// verify is how many records a second of one processor's time are verified, beside what the hashing takes by itself. The goal is a million, or
// the hash's own speed if that is less.
func (b *bench) verify() ([]contest, error) {
	d := b.disk
	dir, err := d.folder()
	if err != nil {
		return nil, err
	}
	signer, verifier, err := keys()
	if err != nil {
		return nil, err
	}
	sink, err := durable.Open(dir, journal.Options{Signer: signer, Verifier: verifier, Create: true}, durable.Options{})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	var last journal.Pending
	for range b.verified {
		if last, err = sink.Journal().Begin(ctx, encoded); err != nil {
			return nil, errors.Join(err, sink.Close())
		}
	}
	_, err = last.Wait(ctx)
	if err = errors.Join(err, sink.Close()); err != nil {
		return nil, err
	}
	verified := func() error {
		report, err := journal.Verify(ctx, dir, verifier, journal.VerifyOptions{})
		if err == nil && report.Checkpoint.Size != uint64(b.verified) {
			err = fmt.Errorf("%d records were verified, of %d", report.Checkpoint.Size, b.verified)
		}
		return err
	}
	n := b.verified
	repeat := func(name string, do func() error) side {
		return side{Side: row.Side{Name: name, Run: func(times int) error {
			for range times {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		}}}
	}
	perRecord := func(m ...row.Measured) []float64 {
		return each(perCPUSecond(m...), func(v float64) float64 { return v * float64(n) })
	}
	const verifying, tree, alone = "verifying a journal", "hashing leaves and tree", "hashing the leaves alone"
	of := func(theirs string, goal, enough float64) line {
		return line{
			Row: row.Row{
				Group: recordsGroup, Name: "records verified in a second of processor time, beside " + theirs, Unit: "records/s", More: true, Goal: goal, Enough: enough,
				Note: fmt.Sprintf("%d records of %d bytes; sha256, one goroutine for the hashing", n, len(encoded)),
			},
			ours: []string{verifying}, theirs: []string{theirs}, value: perRecord, uncounted: true,
		}
	}
	return []contest{{
		sides: []side{
			repeat(verifying, verified),
			repeat(tree, func() error { hashAll(n, true); return nil }),
			repeat(alone, func() error { hashAll(n, false); return nil }),
		},
		lines: []line{of(tree, 1, 1_000_000), of(alone, 0, 0)},
	}}, nil
}

// sums keeps hashes from being optimized away.
var sums [sha256.Size]byte

// hashAll hashes n records as leaves of a Merkle tree, and as many nodes as the tree over them has.
func hashAll(n int, nodes bool) {
	leaf := append([]byte{0}, encoded...)
	var node [1 + 2*sha256.Size]byte
	node[0] = 1
	for range n {
		sums = sha256.Sum256(leaf)
		if nodes {
			copy(node[1:], sums[:])
			sums = sha256.Sum256(node[:])
		}
	}
}
