package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// attacker holds the ledger's disk, and wants another amount in the record of a transfer, or the record gone.
func (d *day) attacker(ctx context.Context, target *record) error {
	ledger := d.bank.books["ledger"]
	copied, err := d.copyJournal(ledger, "changed")
	if err != nil {
		return err
	}
	if err := overwrite(copied, target); err != nil {
		return err
	}
	place := fmt.Sprintf("record %d", target.index)
	d.tampered(ctx, "changes 125.00 to 925.00 on the disk", copied, place, nil)

	copied, err = d.copyJournal(ledger, "whole")
	if err != nil {
		return err
	}
	genuine, err := os.ReadFile(filepath.Join(copied, "checkpoint"))
	if err != nil {
		return err
	}
	forged := filepath.Join(d.bank.dir, "forged")
	if err := rewrite(ctx, copied, forged, ledger, target); err != nil {
		return err
	}
	d.tampered(ctx, "writes it all anew, signed with a key of its own", forged, "does not verify", nil)
	if err := os.WriteFile(filepath.Join(forged, "checkpoint"), genuine, 0o600); err != nil {
		return err
	}
	d.tampered(ctx, "and leaves the checkpoint that was there", forged, "do not hash to the signed checkpoint", nil)
	return d.rollback(ctx, ledger)
}

// rollback puts back a copy from before a transfer.
func (d *day) rollback(ctx context.Context, ledger *book) error {
	before, err := d.copyJournal(ledger, "old")
	if err != nil {
		return err
	}
	if _, err := d.bank.teller(ctx, "pay", "tx-undone", "acc-alice", "acc-bob", "100"); err != nil {
		return err
	}
	if _, err := ledger.find(ctx, func(r *record) bool { return r.served() && r.Transaction.ID == "tx-undone" }); err != nil {
		return err
	}
	c, err := journal.ReadCheckpoint(ledger.dir, ledger.verifier)
	if err != nil {
		return err
	}
	d.kept["ledger"] = c.Note
	_, err = journal.Verify(ctx, before, ledger.verifier, journal.VerifyOptions{})
	r := row{who: "who has the ledger's disk", what: "puts back a copy from before a transfer", want: "verified", got: "verified", why: "by itself it is whole: it is how the journal was"}
	if err != nil {
		r.got, r.detail = "tampered with", err.Error()
	}
	d.table.add(r)
	d.tampered(ctx, "but a checkpoint was kept elsewhere", before, fmt.Sprintf("a signed checkpoint counts %d", c.Size), [][]byte{c.Note})
	return nil
}

// tampered verifies what the attacker made of the journal, and adds its row.
func (d *day) tampered(ctx context.Context, what, dir, why string, known [][]byte) {
	r := row{who: "who has the ledger's disk", what: what, want: "tampered with", got: "tampered with", wantWhy: why}
	_, err := journal.Verify(ctx, dir, d.bank.books["ledger"].verifier, journal.VerifyOptions{Known: known})
	if err == nil {
		r.got = "verified"
	} else {
		r.why = strings.ReplaceAll(err.Error(), d.bank.dir+string(filepath.Separator), "")
	}
	d.table.add(r)
}

// copyJournal copies a journal; the checkpoint, whose name comes first, before what it is of.
func (d *day) copyJournal(b *book, name string) (string, error) {
	dir := filepath.Join(d.bank.dir, name)
	return dir, os.CopyFS(dir, os.DirFS(b.dir))
}

// overwrite changes the amount of a record where it lies, in place.
func overwrite(dir string, r *record) error {
	was, is := audit.AppendRecord(nil, &r.Record), altered(r.Record)
	segments, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
	if err != nil {
		return err
	}
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if changed := bytes.Replace(data, was, audit.AppendRecord(nil, &is), 1); !bytes.Equal(changed, data) {
			return os.WriteFile(path, changed, 0o600)
		}
	}
	return errors.New("the record is in no segment")
}

// rewrite makes a journal of the same records but for one, with a key of the same name. All checksums in it are right.
func rewrite(ctx context.Context, from, to string, b *book, target *record) error {
	private, public, err := note.GenerateKey(rand.Reader, b.verifier.Name())
	if err != nil {
		return err
	}
	signer, signerErr := note.NewSigner(private)
	verifier, verifierErr := note.NewVerifier(public)
	if err := errors.Join(signerErr, verifierErr); err != nil {
		return err
	}
	c, err := journal.ReadCheckpoint(from, b.verifier)
	if err != nil {
		return err
	}
	j, err := journal.Open(to, journal.Options{Signer: signer, Verifier: verifier, Create: true})
	if err != nil {
		return err
	}
	for r, err := range journal.Records(from, 0, c.Size) {
		if err != nil {
			return errors.Join(err, j.Close())
		}
		data := r.Data
		if r.Index == target.index {
			other := altered(target.Record)
			data = audit.AppendRecord(nil, &other)
		}
		if _, err := j.Begin(ctx, data); err != nil {
			return errors.Join(err, j.Close())
		}
	}
	return j.Close()
}
