package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// record is a record in a journal, and its place there.
type record struct {
	audit.Record

	index uint64
}

// why says it in a line.
func (r *record) why() string {
	switch {
	case r.Event == audit.EventHandshakeRefused:
		return "handshake: " + r.Detail
	case r.Stage == "validate":
		return r.Reason + ": " + r.Detail
	case r.Stage != "":
		return r.Stage + ": " + r.Reason
	case r.Outcome != audit.OutcomeOK:
		return string(r.Outcome) + ": " + r.Detail
	}
	// The rule's place in the sources is long; which entry of it decided is what tells.
	return r.Reason + ": " + r.Rule[max(0, strings.LastIndex(r.Rule, "callers[")):]
}

// served reports whether it is the last record of a call that the process served.
func (r *record) served() bool {
	return r.Side == audit.SideServer && (r.Type == audit.TypeCall || r.Type == audit.TypeOutcome)
}

// book is a journal that another process writes. It is used by one goroutine.
type book struct {
	dir      string
	key      string // the path of the key that signs
	verifier note.Verifier

	follower *journal.Follower
	records  []record // those that were covered by a checkpoint when it was read last
}

// read reads on, as far as the newest signed checkpoint goes: what lies beyond may not be there after a crash.
func (b *book) read() error {
	c, err := journal.ReadCheckpoint(b.dir, b.verifier)
	if err != nil {
		return err
	}
	for r, err := range b.follower.Records(c.Size) {
		if err != nil {
			return err
		}
		parsed, err := audit.ParseRecord(r.Data)
		if err != nil {
			return err
		}
		b.records = append(b.records, record{parsed, r.Index})
	}
	return nil
}

// find waits for the newest record that match picks, and returns one without an outcome if there is none. Records are in the journal when
// the answer leaves, or a moment later where nobody waits for them, and a checkpoint follows.
func (b *book) find(ctx context.Context, match func(*record) bool) (record, error) {
	found := record{Record: audit.Record{Outcome: "no record"}}
	_, err := b.await(ctx, func() bool {
		for i := range slices.Backward(b.records) {
			if match(&b.records[i]) {
				found = b.records[i]
				return true
			}
		}
		return false
	})
	return found, err
}

// await reads on until done says that it has seen enough, and reports whether it did.
func (b *book) await(ctx context.Context, done func() bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := b.read(); err != nil {
			return false, err
		}
		if done() {
			return true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, nil
		}
	}
}
