package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

const benchRecord = 300

// BenchmarkOne is what one appender waits for a record, beside a bare write and fdatasync of as many bytes.
func BenchmarkOne(b *testing.B) {
	record := make([]byte, benchRecord)
	b.Run("bare", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for i := range b.N {
			if _, err := f.WriteAt(record, int64(i*benchRecord)); err != nil {
				b.Fatal(err)
			}
			if err := datasync(f); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("journal", func(b *testing.B) {
		j := mustOpen(b, b.TempDir(), benchOptions())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := j.Append(b.Context(), record); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchOptions() Options {
	opts := options()
	opts.SegmentBytes, opts.CheckpointEvery = 0, 0
	return opts
}

// bareGroup is a group commit and nothing else: no checksums, no hashing, no tiles, no checks.
type bareGroup struct {
	mu   sync.Mutex
	buf  []byte
	n    int
	done chan struct{}
	wake chan struct{}
}

func (g *bareGroup) append(record []byte) {
	g.mu.Lock()
	g.buf = append(g.buf, record...)
	g.n++
	first := g.n == 1
	done := g.done
	g.mu.Unlock()
	if first {
		notify(g.wake)
	}
	<-done
}

func (g *bareGroup) run(f *os.File) {
	at := int64(0)
	var spare []byte
	for range g.wake {
		g.mu.Lock()
		buf, done := g.buf, g.done
		g.buf, g.done, g.n = spare[:0], make(chan struct{}), 0
		g.mu.Unlock()
		if len(buf) > 0 {
			if _, err := f.WriteAt(buf, at); err != nil {
				panic(err)
			}
			if err := datasync(f); err != nil {
				panic(err)
			}
			at += int64(len(buf))
		}
		spare = buf
		close(done)
	}
}

// BenchmarkMany is what many appenders reach together, beside a group commit that does nothing else.
func BenchmarkMany(b *testing.B) {
	record := make([]byte, benchRecord)
	for _, appenders := range []int{64, 512} {
		b.Run(fmt.Sprintf("%d/bare", appenders), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			g := &bareGroup{done: make(chan struct{}), wake: make(chan struct{}, 1)}
			go g.run(f)
			spread(b, appenders, func() { g.append(record) })
			close(g.wake)
		})
		b.Run(fmt.Sprintf("%d/journal", appenders), func(b *testing.B) {
			j := mustOpen(b, b.TempDir(), benchOptions())
			ctx := context.Background()
			spread(b, appenders, func() {
				if _, err := j.Append(ctx, record); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func spread(b *testing.B, workers int, do func()) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkVerify is the speed of Verify on one core, beside the hashing alone.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	j := mustOpen(b, dir, benchOptions())
	const n = 500_000
	record := make([]byte, benchRecord)
	var last Pending
	for range n {
		last, _ = j.Begin(b.Context(), record)
	}
	if _, err := last.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	mustClose(b, j)
	b.Run("hash", func(b *testing.B) {
		leaf := make([]byte, benchRecord+1)
		for b.Loop() {
			t := &tree{}
			for range n {
				t.add(hashLeaf(leaf))
			}
		}
		b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mustVerify(b, dir, VerifyOptions{})
		}
		b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
	})
}
