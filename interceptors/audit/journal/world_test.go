package journal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
)

// origin is the log's name in the tests. The key is the tests' own and signs nothing else.
const (
	origin = "bank.example/ledger/audit"
)

func TestMain(m *testing.M) {
	if os.Getenv("JOURNAL_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// zeros makes the tests' key the same each time, so that a child process has it too.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func keys(name string) (note.Signer, note.Verifier) {
	private, public, err := note.GenerateKey(zeros{}, name)
	if err != nil {
		panic(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		panic(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		panic(err)
	}
	return signer, verifier
}

// options returns options under which segments and checkpoints come often.
func options() Options {
	signer, verifier := keys(origin)
	return Options{Signer: signer, Verifier: verifier, Create: true, SegmentBytes: 4096, CheckpointEvery: 20 * time.Millisecond}
}

func mustOpen(t testing.TB, dir string, opts Options) *Journal {
	t.Helper()
	j, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, j *Journal, records ...string) {
	t.Helper()
	for _, r := range records {
		if _, err := j.Append(context.Background(), []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
}

// fill appends n records, each different, of varied length.
func fill(t testing.TB, j *Journal, n int) {
	t.Helper()
	for range n {
		mustAppend(t, j, text(j.Size()))
	}
}

// fillFast is fill with many commits' records in each commit.
func fillFast(t testing.TB, j *Journal, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	from := j.Size()
	var last Pending
	for i := range uint64(n) {
		p, err := j.Begin(context.Background(), []byte(text(from+i)))
		if err != nil {
			t.Fatal(err)
		}
		last = p
	}
	if _, err := last.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func text(i uint64) string { return fmt.Sprintf("record %d %s", i, strings.Repeat("x", int(i*7%120))) }

func mustVerify(t testing.TB, dir string, opts VerifyOptions) Report {
	t.Helper()
	_, verifier := keys(origin)
	report, err := Verify(context.Background(), dir, verifier, opts)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// checkRecords checks that records from on are those of fill.
func checkRecords(t testing.TB, dir string, from, to uint64) {
	t.Helper()
	next := from
	for r, err := range Records(dir, from, to) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != next || !bytes.Equal(r.Data, []byte(text(next))) {
			t.Fatalf("record %d is %d %q", next, r.Index, r.Data)
		}
		next++
	}
	if next != to {
		t.Fatalf("%d records from %d on, want up to %d", next-from, from, to)
	}
}

// copyDir copies a journal as a crash would leave it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// lastSegment returns the path of the last segment.
func lastSegment(t testing.TB, dir string) string {
	t.Helper()
	firsts, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return segmentPath(dir, firsts[len(firsts)-1])
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func edit(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), filePerm); err != nil {
		t.Fatal(err)
	}
}

func tileCount(t testing.TB, dir string) (n int) {
	t.Helper()
	if err := filepath.WalkDir(filepath.Join(dir, tileDir), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// closedSegments is a closed journal of 200 records in several segments.
func closedSegments(t *testing.T) (dir string, firsts []uint64) {
	t.Helper()
	dir = t.TempDir()
	j := mustOpen(t, dir, options())
	fill(t, j, 200)
	mustClose(t, j)
	firsts, err := listSegments(dir)
	check(t, err)
	return dir, firsts
}
