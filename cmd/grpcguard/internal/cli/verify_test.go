package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestVerifyReports(t *testing.T) {
	t.Parallel()
	w := bank(t, settled())
	c, err := journal.ReadCheckpoint(w.dir, w.verifier)
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := w.on("verify")
	if status != statusGood || stderr != "" {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	info, err := os.Stat(filepath.Join(w.dir, "segments", "00000000000000000000.seg"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "verify", stdout, fmt.Sprintf(`journal      bank.example/ledger/audit
checkpoint   11 records, root %s
read         11 records in 1 segment, %d bytes
records      answered 1, call 1, denials 1, event 1, intent 4, outcome 3
open         no intent is without an outcome
result       GOOD: every record that the checkpoint covers is as it was added
`, c.Root, info.Size()))
}

func TestVerifyListsOpenIntents(t *testing.T) {
	t.Parallel()
	w := bank(t)
	status, stdout, _ := w.on("verify", "-known", filepath.Join(w.dir, "checkpoint"))
	if status != statusFindings {
		t.Errorf("exit status %d", status)
	}
	_, open, _ := strings.Cut(stdout, "\nopen ")
	same(t, "open intents", open, `        calls that were still open when the checkpoint was made, with intents and no outcome: 1
CALL                              RECORDS  INTENTS  FIRST INTENT              AGE       CALLER                             METHOD                  TRANSACTION  AMOUNT     ANSWERED
0000000000000abc0000000000000004  5..7     2        2026-11-24T12:00:40.000Z  1h29m20s  spiffe://bank.example/teller/otto  /bank.v1.Payments/Feed  tx-2         20.25/EUR  yes
result       GOOD: every record that the checkpoint covers is as it was added
`)
	if status, _, _ := w.on("verify", "-open-ok"); status != statusGood {
		t.Errorf("with -open-ok: exit status %d", status)
	}
}

// An outcome without an intent cannot be, unless its intent lies before what is read or the call never had one.
func TestVerifyFindsOutcomesWithoutIntent(t *testing.T) {
	t.Parallel()
	lone := audit.Record{ID: id(77, 0), Type: audit.TypeOutcome, Outcome: audit.OutcomeOK, Messages: 1}
	refused := audit.Record{ID: id(78, 0), Type: audit.TypeOutcome, Outcome: audit.OutcomeDenied}
	w := bank(t, settled(), refused, lone)
	status, stdout, _ := w.on("verify", "-open-ok")
	if want := "no intent    FINDING: outcomes of calls that have no intent: 1, the first is record 12\n"; status != statusFindings || !strings.Contains(stdout, want) {
		t.Errorf("exit status %d, %s", status, stdout)
	}
}

func TestVerifySince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, business()...)
	since := w.write("since", string(covered(t, j).Note))
	add(t, j, settled(), audit.Record{ID: id(50, 0), Type: audit.TypeCall})
	w.close(j)
	status, stdout, stderr := w.on("verify", "-since", since)
	for _, want := range []string{
		"since        a checkpoint of 10 records; what it covers was not read\n",
		"read         2 records in 1 segment, ",
		"records      call 1, outcome 1\n",
		"earlier      outcomes of calls whose intents are not among what was read: 1\n",
		"result       GOOD: every record from 10 on that the checkpoint covers is as it was added\n",
	} {
		if status != statusGood || !strings.Contains(stdout, want) {
			t.Errorf("exit status %d, %s\n%s\nwant %s", status, stderr, stdout, want)
		}
	}
}

// What a running service has open can be verified: what is not covered yet is told, and not counted.
func TestVerifyWhileTheServiceWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(func(o *journal.Options) { o.SegmentBytes = 1000 })
	add(t, j, business()...)
	covered(t, j)
	for range 20 {
		add(t, j, audit.Record{ID: id(50, 0), Type: audit.TypeCall})
		if status, _, stderr := w.on("verify", "-open-ok"); status != statusGood {
			t.Fatalf("exit status %d, %s", status, stderr)
		}
	}
}

func TestVerifyTellsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var clock atomic.Int64
	j := w.open(func(o *journal.Options) {
		o.SegmentBytes, o.Retention, o.Now = 700, time.Hour, func() time.Time { return noon.Add(time.Duration(clock.Load())) }
	})
	add(t, j, business()...)
	covered(t, j)
	clock.Store(int64(24 * time.Hour))
	first, err := j.Prune(context.Background())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	w.close(j)
	_, stdout, stderr := w.on("verify")
	// A segment is not older than what has passed since the one before it, whatever the clock of the test says.
	stdout = regexp.MustCompile(`T12:00:0\d\.\d{3}Z, they`).ReplaceAllString(stdout, "T12:00:00.000Z, they")
	if want := fmt.Sprintf("deleted      the records before %d were deleted when their time was over, as record 10 says:\n             none was written after 2026-11-24T12:00:00.000Z, they were to be kept for 1h0m0s, and were deleted at 2026-11-25T12:00:00.000Z\n", first); !strings.Contains(stdout, want) || stderr != "" {
		t.Errorf("%s%s\nwant %s", stdout, stderr, want)
	}
	if want := "result       GOOD: every record that the checkpoint covers is as it was added, or was deleted when its time was over\n"; !strings.HasSuffix(stdout, want) {
		t.Errorf("%s\nwant %s", stdout, want)
	}
	status, _, stderr := w.on("query")
	if want := fmt.Sprintf("note: the journal begins with record %d; those before it were deleted, which verify proves\n", first); status != statusGood || stderr != want {
		t.Errorf("query: exit status %d, %s", status, stderr)
	}
	status, _, stderr = w.on("prove", "0")
	if want := fmt.Sprintf("grpcguard audit prove: record 0 was deleted; the journal begins with record %d\n", first); status != statusBad || stderr != want {
		t.Errorf("prove: exit status %d, %s", status, stderr)
	}
}

// A deletion while a journal is read says nothing against it.
func TestVerifyDuringADeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(func(o *journal.Options) { o.SegmentBytes, o.Retention = 700, time.Nanosecond })
	add(t, j, business()...)
	covered(t, j)
	var first uint64
	var out, stderr bytes.Buffer
	calls := 0
	now := func() time.Time {
		if calls++; calls == 3 { // It was asked when it began, and now that the first record was read.
			var err error
			if first, err = j.Prune(context.Background()); err != nil || first == 0 {
				t.Error(first, err)
			}
		}
		return later
	}
	p := &program{stdout: &out, stderr: &stderr, now: now}
	status := p.run(context.Background(), []string{"audit", "verify", w.dir, "-key", w.key, "-progress", "-open-ok"})
	if want := fmt.Sprintf("note: the service deleted the records before %d while they were read; beginning again\n", first); status != statusGood || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("exit status %d, %s%s\nwant %s", status, out.String(), stderr.String(), want)
	}
}

// Whatever was done to a journal, the exit status is 1 and one line says what is wrong.
func TestVerifyOfATamperedJournal(t *testing.T) {
	t.Parallel()
	segment := func(w *world) string { return filepath.Join(w.dir, "segments", "00000000000000000000.seg") }
	edit := func(w *world, path string, change func(b []byte) []byte) {
		w.t.Helper()
		if err := os.WriteFile(path, change([]byte(w.read(path))), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		tamper func(w *world) (args []string)
		want   string
	}{
		{"a byte flipped", func(w *world) []string {
			edit(w, segment(w), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
			return nil
		}, "fails its checksum"},
		{"cut short", func(w *world) []string {
			edit(w, segment(w), func(b []byte) []byte { return b[:len(b)-10] })
			return nil
		}, "the file ends"},
		{"no checkpoint", func(w *world) []string {
			_ = os.Remove(filepath.Join(w.dir, "checkpoint"))
			return nil
		}, "checkpoint is not there"},
		{"no segments", func(w *world) []string {
			_ = os.Remove(segment(w))
			return nil
		}, "has a checkpoint and no segments"},
		{"another key", func(w *world) []string { return []string{"-key", newWorld(w.t).key} }, "the checkpoint does not verify"},
		{"rolled back", func(w *world) []string {
			old := w.t.TempDir()
			if err := os.CopyFS(old, os.DirFS(w.dir)); err != nil {
				w.t.Fatal(err)
			}
			j := w.open(nil)
			add(w.t, j, settled())
			w.close(j)
			known := w.write("known", w.read(filepath.Join(w.dir, "checkpoint")))
			w.dir = old
			return []string{"-known", known}
		}, "has 10 records, and a signed checkpoint counts 11"},
		{"rewritten by who holds the key", func(w *world) []string {
			known := w.write("known", w.read(filepath.Join(w.dir, "checkpoint")))
			w.dir = w.t.TempDir()
			j := w.open(nil)
			records := business()
			records[2].Transaction.Amount = "1.50"
			add(w.t, j, records...)
			w.close(j)
			return []string{"-known", known}
		}, "the first 10 records do not hash to the signed checkpoint"},
		{"a checkpoint of another journal", func(w *world) []string {
			other := bank(w.t)
			return []string{"-known", filepath.Join(other.dir, "checkpoint")}
		}, "does not verify"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := bank(t)
			w.t = t
			status, stdout, stderr := w.on("verify", tt.tamper(w)...)
			if status != statusBad || stdout != "" || !strings.HasPrefix(stderr, "grpcguard audit verify: ") || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit status %d\n%s%s\nwant 1 and %q", status, stdout, stderr, tt.want)
			}
		})
	}
}

// Progress is told when it takes longer than a second.
func TestVerifyProgress(t *testing.T) {
	t.Parallel()
	w := bank(t, settled())
	for _, tt := range []struct {
		step time.Duration
		want string
	}{
		{time.Millisecond, ""},
		{2 * time.Second, "0 of 11 records, 0%\n11 of 11 records, 100%\n"},
	} {
		var out, stderr bytes.Buffer
		now := later
		p := &program{stdout: &out, stderr: &stderr, now: func() time.Time { now = now.Add(tt.step); return now }}
		if status := p.run(context.Background(), []string{"audit", "verify", w.dir, "-key", w.key, "-progress"}); status != 0 {
			t.Error(status)
		}
		same(t, "progress", stderr.String(), tt.want)
	}
}

func TestAnInterruptedVerificationProvesNothing(t *testing.T) {
	t.Parallel()
	w := bank(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, stderr bytes.Buffer
	status := Run(ctx, []string{"audit", "verify", w.dir, "-key", w.key}, nil, &out, &stderr)
	if want := "grpcguard audit verify: interrupted; nothing is proved\n"; status != statusBad || stderr.String() != want || out.Len() > 0 {
		t.Errorf("exit status %d, %s%s", status, out.String(), stderr.String())
	}
}
