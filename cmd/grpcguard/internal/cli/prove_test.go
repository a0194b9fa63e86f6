package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestProve(t *testing.T) {
	t.Parallel()
	w := bank(t)
	folder := filepath.Dir(w.dir)
	file, raw := filepath.Join(folder, "p.tlog-proof"), filepath.Join(folder, "p.bin")
	same(t, "prove", w.must("prove", "4", "-out", file, "-record", raw), file+" proves record 4\n")
	same(t, "prove by ID", w.must("prove", "-id", "0000000000000abc0000000000000009.0"), w.read(file))
	record := business()[4]
	if b := audit.AppendRecord(nil, &record); w.read(raw) != string(b) {
		t.Errorf("-record wrote %q", w.read(raw))
	}

	// The third party has the proof and the key, and no journal.
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := w.run("verify-proof", file, "-key", w.key)
	_, c, err := journal.CheckRecord([]byte(w.read(file)), []byte(w.read(raw)), w.verifier)
	if err != nil {
		t.Fatal(err)
	}
	if status != 0 || stderr != "" {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	same(t, "verify-proof", stdout, fmt.Sprintf(`PROVED: these %d bytes are record 4 of the journal bank.example/ledger/audit, whose key bank.example/ledger/audit+%08x signed a checkpoint of 10 records with the root %s
It does not prove that what the record says is true, nor what other records say.
{"index":4,"record":{"id":"0000000000000abc0000000000000009.0","type":"denials","time":"2026-11-24T12:00:30Z","method":"/bank.v1.Payments/Pay","caller":"spiffe://evil.example/x","reason":"no rule allows the caller","stage":"rule","outcome":"denied","code":"PermissionDenied","count":7}}
`, len(w.read(raw)), w.verifier.KeyHash(), c.Root))

	var out, errs bytes.Buffer
	p := &program{stdin: strings.NewReader(w.read(file)), stdout: &out, stderr: &errs}
	if status := p.run(context.Background(), []string{"audit", "verify-proof", "-", "-key", w.key}); status != 0 || out.String() != stdout {
		t.Errorf("from standard input: exit status %d, %s%s", status, out.String(), errs.String())
	}
}

// A proof that others' tools made has no record in it, and one of this tool is one of theirs.
func TestVerifyProofOfAPlainProof(t *testing.T) {
	t.Parallel()
	w := bank(t)
	plain, err := journal.ProveRecord(w.dir, w.verifier, 2)
	if err != nil {
		t.Fatal(err)
	}
	file, raw := w.write("plain", string(plain)), filepath.Join(filepath.Dir(w.dir), "raw")
	proof := w.must("prove", "2", "-record", raw)
	lines := strings.SplitN(proof, "\n", 3)
	same(t, "the proof without its line extra", lines[0]+"\n"+lines[2], string(plain))
	if status, _, stderr := w.run("verify-proof", file, raw, "-key", w.key); status != 0 {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	status, _, stderr := w.run("verify-proof", file, "-key", w.key)
	if want := "grpcguard audit verify-proof: NOT PROVED: the proof has no record in it, in a line that begins with \"extra\"; give the record's bytes as a second file\n"; status != 1 || stderr != want {
		t.Errorf("exit status %d, %s", status, stderr)
	}
}

func TestVerifyProofOfAForgery(t *testing.T) {
	t.Parallel()
	w := bank(t)
	proof := w.must("prove", "3")
	lines := strings.Split(proof, "\n")
	forged := business()[3]
	forged.Transaction.Amount = "999.50"
	other := strings.Replace(proof, lines[1], "extra "+base64.StdEncoding.EncodeToString(audit.AppendRecord(nil, &forged)), 1)
	for name, tt := range map[string]struct{ proof, key, want string }{
		"another record":    {other, w.key, "the proof of record 3 does not hold"},
		"another index":     {strings.Replace(proof, "index 3", "index 2", 1), w.key, "the proof of record 2 does not hold"},
		"another key":       {proof, newWorld(t).key, "the checkpoint does not verify"},
		"another size":      {strings.Replace(proof, "\n10\n", "\n11\n", 1), w.key, "the checkpoint does not verify"},
		"a hash is missing": {strings.Replace(proof, lines[3]+"\n", "", 1), w.key, "does not hold"},
		"no base64":         {strings.Replace(proof, lines[1], lines[1]+"!", 1), w.key, `the proof's line "extra" is no base64`},
		"nothing":           {"", w.key, "has no record in it"},
		"too much":          {strings.Repeat("x", 2<<20), w.key, "is larger than any proof"},
	} {
		status, stdout, stderr := w.run("verify-proof", w.write("forged", tt.proof), "-key", tt.key)
		if status == 0 || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit status %d\n%s%s\nwant %s", name, status, stdout, stderr, tt.want)
		}
	}
}

// The record's checksum is no proof: who can write the disk can write one. What prove hands out holds, or it says so.
func TestProveNothingOfATamperedJournal(t *testing.T) {
	t.Parallel()
	w, other := bank(t), newWorld(t)
	j := other.open(nil)
	records := business()
	records[3].Transaction.Amount = "999.50"
	add(t, j, records...)
	other.close(j)
	if err := os.RemoveAll(filepath.Join(w.dir, "segments")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.dir, "segments"), os.DirFS(filepath.Join(other.dir, "segments"))); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := w.on("prove", "3")
	if want := "grpcguard audit prove: NOT GOOD: record 3 is not the one that was added: "; status != 1 || stdout != "" || !strings.HasPrefix(stderr, want) {
		t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
	}
	if status, _, _ := w.on("prove", "-id", "0000000000000abc0000000000000099.0"); status != 1 {
		t.Errorf("an ID that is not there: exit status %d", status)
	}
}
