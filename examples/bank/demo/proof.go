package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// proof is what the journals prove, to whoever has the key that verifies, and against whoever holds the disk.
func (d *day) proof(ctx context.Context) error {
	d.kept = make(map[string][]byte)
	for _, name := range d.bank.journals() {
		if err := d.verified(ctx, name); err != nil {
			return err
		}
	}
	ledger := d.bank.books["ledger"]
	t := tallyOf(ledger.records)
	sums, err := t.sums()
	if err != nil {
		return err
	}
	d.table.add(row{
		what: fmt.Sprintf("%d transfers in the ledger's journal", len(t.done)), want: amount("EUR", d.ordered), got: sums,
		why: "what the tellers ordered, added up",
	})
	return errors.Join(d.secrets(), d.byAccount(), d.inclusion(t.done["tx-1"]), d.attacker(ctx, t.done["tx-1"]))
}

// verified verifies a journal from its first record to its checkpoint, while its service goes on, and keeps the checkpoint.
func (d *day) verified(ctx context.Context, name string) error {
	book := d.bank.books[name]
	var t tally
	// The last outcomes may be behind the checkpoint still. Those that the kill left the ledger without do not come.
	if _, err := book.await(ctx, func() bool {
		t = tallyOf(book.records)
		return len(t.open) == 0 || name == "ledger"
	}); err != nil {
		return err
	}
	report, err := journal.Verify(ctx, book.dir, book.verifier, journal.VerifyOptions{})
	r := row{what: name + "'s journal against its signed checkpoint", want: "verified", got: "verified"}
	if err != nil {
		r.got, r.detail = "not verified", err.Error()
	}
	switch {
	case t.orphan != nil:
		r.got, r.detail = "not verified", fmt.Sprintf("record %d is an outcome without its intents", t.orphan.index)
	case name != "ledger":
		r.wantWhy = ", 0 intents without an outcome"
	}
	c := report.Checkpoint
	r.why = fmt.Sprintf("%d records hash to %s, %d intents without an outcome", c.Size, c.Root, len(t.open))
	d.kept[name] = c.Note
	d.table.add(r)
	return nil
}

// secrets looks for account numbers in all that lies in the journals' folders.
func (d *day) secrets() error {
	accounts := []string{"acc-alice", "acc-bob", "acc-carol", "acc-dora", "acc-erin"}
	found, size := 0, 0
	err := filepath.WalkDir(filepath.Join(d.bank.dir, "journals"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // Tiles and checkpoints are replaced while we look.
			return nil
		}
		size += len(data)
		for _, account := range accounts {
			found += bytes.Count(data, []byte(account))
		}
		return err
	})
	d.table.add(row{
		what: fmt.Sprintf("account numbers in %d kB of journals", size>>10), want: "0 found", got: fmt.Sprintf("%d found", found),
		why: "transfer.from_account and to_account are sensitive",
	})
	return err
}

// byAccount finds the transfers of an account, as somebody can who has the key.
func (d *day) byAccount() error {
	key, err := os.ReadFile(d.bank.sensitiveKey())
	if err != nil {
		return err
	}
	redactor, err := audit.NewRedactor(key)
	if err != nil {
		return err
	}
	alice, named := redactor.Text("acc-alice"), "not found"
	matches := 0
	for _, r := range tallyOf(d.bank.books["ledger"].records).done {
		if r.Transaction.FromAccount == alice {
			named = "found"
			matches++
		}
	}
	d.table.add(row{what: "acc-alice's transfers, by whoever has the key", want: "found", got: named, why: fmt.Sprintf("%d are from %s...", matches, alice[:24])})
	return nil
}

// inclusion proves one record to somebody who has neither the journal nor a connection to it.
func (d *day) inclusion(r *record) error {
	ledger := d.bank.books["ledger"]
	proof, err := journal.ProveRecord(ledger.dir, ledger.verifier, r.index)
	if err != nil {
		return err
	}
	check := func(r audit.Record) (string, string) {
		index, c, err := journal.CheckRecord(proof, audit.AppendRecord(nil, &r), ledger.verifier)
		if err != nil {
			return "refused", err.Error()
		}
		return "proved", fmt.Sprintf("record %d of %d, by a proof of %d bytes that is all there is", index, c.Size, len(proof))
	}
	got, why := check(r.Record)
	d.table.add(row{what: "tx-1 is in it: a proof, checked without the journal", want: "proved", got: got, why: why})
	got, why = check(altered(r.Record))
	d.table.add(row{what: "the same proof for another amount", want: "refused", got: got, why: why})
	return nil
}

// altered is a record of 125.00 with 925.00 in its place.
func altered(r audit.Record) audit.Record {
	r.Transaction.Amount = strings.Replace(r.Transaction.Amount, "1", "9", 1)
	return r
}
