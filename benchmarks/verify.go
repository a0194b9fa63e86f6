package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// verify is how many records a second of one processor's time are verified, beside what the hashing takes by itself. The goal is a million, or
// the hash's own speed if that is less; so the ratio is to the lesser of the two.
func (b bench) verify(d *disk) ([]kept, error) {
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
	row := kept{what: "records verified a second of one core, beside a million, or the hashing if that is less", unit: "records/s", goal: 1}
	leaves := kept{what: "the same beside hashing the leaves alone", unit: "records/s"}
	verified := func() error {
		report, err := journal.Verify(ctx, dir, verifier, journal.VerifyOptions{})
		if err == nil && report.Checkpoint.Size != uint64(b.verified) {
			err = fmt.Errorf("%d records were verified, of %d", report.Checkpoint.Size, b.verified)
		}
		return err
	}
	for range b.rounds {
		ours, err := b.perCoreSecond(verified)
		if err != nil {
			return nil, err
		}
		theirs, _ := b.perCoreSecond(func() error { hashAll(b.verified, true); return nil })
		alone, _ := b.perCoreSecond(func() error { hashAll(b.verified, false); return nil })
		row.ours, row.theirs = append(row.ours, ours), append(row.theirs, theirs)
		row.ratios = append(row.ratios, ours/min(theirs, 1_000_000))
		leaves.ours, leaves.theirs, leaves.ratios = append(leaves.ours, ours), append(leaves.theirs, alone), append(leaves.ratios, ours/alone)
	}
	return []kept{row, leaves}, nil
}

// perCoreSecond returns how many records a second of processor time do works through. What else this process does meanwhile counts, and is
// nothing.
func (b bench) perCoreSecond(do func() error) (float64, error) {
	began := processorTime()
	err := do()
	return float64(b.verified) / (processorTime() - began).Seconds(), err
}

// processorTime returns what this process has had of the processors, which other processes do not add to as they do to time.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
