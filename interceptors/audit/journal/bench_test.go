package journal

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const benchRecord = 300

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
	at   int64
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
	var spare []byte
	for range g.wake {
		g.mu.Lock()
		buf, done := g.buf, g.done
		g.buf, g.done, g.n = spare[:0], make(chan struct{}), 0
		g.mu.Unlock()
		if len(buf) > 0 {
			if _, err := f.WriteAt(buf, g.at); err != nil {
				panic(err)
			}
			if err := datasync(f); err != nil {
				panic(err)
			}
			g.at += int64(len(buf))
		}
		spare = buf
		close(done)
	}
}

// BenchmarkBeside is what 1, 64 and 512 appenders reach with a journal, beside what they reach with a write and fdatasync of the same
// bytes: with one appender nothing else, with more a group commit and nothing else. The two take turns of 50 ms, so that both have the
// same disk whatever else uses it; the ratios are medians over the turns.
func BenchmarkBeside(b *testing.B) {
	record := make([]byte, benchRecord)
	for _, appenders := range []int{1, 64, 512} {
		b.Run(strconv.Itoa(appenders), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			g := &bareGroup{done: make(chan struct{}), wake: make(chan struct{}, 1)}
			defer close(g.wake)
			go g.run(f)
			bare := func() { g.append(record) }
			if appenders == 1 {
				at := g.at
				bare = func() {
					if _, err := f.WriteAt(record, at); err != nil {
						b.Error(err)
					}
					if err := datasync(f); err != nil {
						b.Error(err)
					}
					at += benchRecord
				}
			}
			j := mustOpen(b, b.TempDir(), benchOptions())
			kept := func() {
				if _, err := j.Append(b.Context(), record); err != nil {
					b.Error(err)
				}
			}
			var bares, journals, ratios []float64
			b.ResetTimer()
			for range b.N {
				x, y := turn(appenders, bare), turn(appenders, kept)
				bares, journals, ratios = append(bares, x), append(journals, y), append(ratios, y/x)
			}
			b.StopTimer()
			b.ReportMetric(median(bares), "bare/s")
			b.ReportMetric(median(journals), "journal/s")
			b.ReportMetric(median(ratios), "journal/bare")
		})
	}
}

// turn returns how often a second workers together do something.
func turn(workers int, do func()) float64 {
	const long = 50 * time.Millisecond
	var done atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for range workers {
		group.Go(func() {
			n := int64(0)
			for ; n == 0 || time.Since(began) < long; n++ {
				do()
			}
			done.Add(n)
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
