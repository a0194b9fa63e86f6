package journal

import (
	"crypto/sha256"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the processor time that something takes on this thread, so that it says the same however busy the machine is.
func cpu(b *testing.B, do func()) float64 {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	do()
	return (used() - before).Seconds()
}

// BenchmarkVerify is how many records Verify checks in a second of one core's time, beside SHA-256 over the leaves alone and beside the
// hashing of leaves and tree. They take turns; the figures are medians over the turns.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	j := mustOpen(b, dir, benchOptions())
	const n = 200_000
	record := make([]byte, benchRecord)
	var last Pending
	for range n {
		last, _ = j.Begin(b.Context(), record)
	}
	if _, err := last.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	mustClose(b, j)
	leaf := make([]byte, benchRecord+1)
	turns := map[string]func(){
		"leaves": func() {
			for range n {
				leaf[1] ^= sha256.Sum256(leaf)[0]
			}
		},
		"hashes": func() {
			t := &tree{}
			for range n {
				t.add(hashLeaf(leaf))
			}
		},
		"verify": func() { mustVerify(b, dir, VerifyOptions{}) },
		"each":   func() { mustVerify(b, dir, VerifyOptions{Each: func(Record) error { return nil }}) },
	}
	took := make(map[string][]float64)
	b.ResetTimer()
	for range b.N {
		for name, do := range turns {
			took[name] = append(took[name], cpu(b, do))
		}
	}
	b.StopTimer()
	for name, list := range took {
		b.ReportMetric(n/median(list), name+"/s")
	}
}
