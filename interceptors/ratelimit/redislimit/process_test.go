//go:build unix

package redislimit

import (
	"bufio"
	"cmp"
	"context"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit/redistest"
)

// childVariable makes the test's program one of several processes that share a limit. It holds what that process does.
const childVariable = "REDISLIMIT_CHILD"

// job is what a process does: ask for permits from several goroutines until the time is over.
type job struct {
	Addr     string
	Limit    ratelimit.Shared
	Key      string
	Cost     uint64
	Workers  int
	Duration time.Duration
	// Gentle is how long, at first, permits are asked for more slowly than they come back; Silent is how long, after that, nobody asks, so
	// that the limit is full again while the processes still hold leases.
	Gentle, Silent time.Duration
}

// admissionSpan is when a permit was used: not before the one, not after the other.
type admissionSpan struct{ Before, After int64 }

// report is what a process did.
type report struct {
	Spans  []admissionSpan
	Errors int
	Stats  Stats
}

// child is the main function of such a process.
func child() int {
	var j job
	if err := gob.NewDecoder(hex.NewDecoder(strings.NewReader(os.Getenv(childVariable)))).Decode(&j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	client := redis.NewClient(redistest.Options(j.Addr))
	s, err := New(client)
	if err == nil {
		err = s.Check(&j.Limit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	// All begin together when the parent says so.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	done := j.work(s)
	done.Stats = s.Stats()
	s.Close()
	_ = client.Close()
	if err := gob.NewEncoder(os.Stdout).Encode(done); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (j *job) work(s *Store) (done report) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), j.Duration+20*time.Second)
	defer cancel()
	start := time.Now()
	end := start.Add(j.Duration)
	for range j.Workers {
		workers.Go(func() {
			var own report
			demands := []ratelimit.Demand{demand(&j.Limit, key(j.Key), j.Cost)}
			for before := time.Now(); before.Before(end); before = time.Now() {
				if in := before.Sub(start); in < j.Gentle {
					time.Sleep(8 * time.Millisecond)
				} else if in < j.Gentle+j.Silent {
					time.Sleep(j.Gentle + j.Silent - in)
				}
				before = time.Now()
				r, _, err := s.Take(ctx, demands)
				switch {
				case err != nil:
					own.Errors++
				case r.Allowed:
					own.Spans = append(own.Spans, admissionSpan{before.UnixNano(), time.Now().UnixNano()})
				default:
					time.Sleep(min(r.RetryAfter, 5*time.Millisecond))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			done.Spans = append(done.Spans, own.Spans...)
			done.Errors += own.Errors
		})
	}
	workers.Wait()
	return done
}

// inProcesses runs j in n processes at once.
func inProcesses(t *testing.T, n int, j job) []report {
	t.Helper()
	var text strings.Builder
	if err := gob.NewEncoder(hex.NewEncoder(&text)).Encode(j); err != nil {
		t.Fatal(err)
	}
	type running struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Reader
	}
	var all []running
	for range n {
		cmd := exec.CommandContext(patient(t), os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+text.String())
		cmd.Stderr = os.Stderr
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, running{cmd, in, bufio.NewReader(out)})
	}
	for _, p := range all {
		if line, err := p.out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("a process said %q, %v", line, err)
		}
	}
	for _, p := range all {
		fmt.Fprintln(p.in, "go")
	}
	var reports []report
	for _, p := range all {
		var r report
		if err := gob.NewDecoder(p.out).Decode(&r); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
	}
	return reports
}

// overshoot says by how many permits, in the worst span of time, more were used than burst + rate*t.
func overshoot(spans []admissionSpan, cost, burst, rate float64) float64 {
	slices.SortFunc(spans, func(a, b admissionSpan) int { return cmp.Compare(a.After, b.After) })
	// The i-th permit and those after it were used after begins[i], and the i-th and those before it before its After.
	begins := make([]int64, len(spans))
	earliest := int64(math.MaxInt64)
	for i, s := range slices.Backward(spans) {
		earliest = min(earliest, s.Before)
		begins[i] = earliest
	}
	spent := func(at int64) float64 { return rate * float64(at-begins[0]) / 1e9 }
	worst, best := math.Inf(-1), math.Inf(1)
	for i, s := range spans {
		best = min(best, float64(i)*cost-spent(begins[i]))
		worst = max(worst, float64(i+1)*cost-spent(s.After)-best)
	}
	return worst - burst
}

// Four processes that share a limit use no more in any span than is promised, with and without leases, and not much less either.
func TestProcessesStayWithinTheBound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit          ratelimit.Shared
		cost           uint64
		gentle, silent time.Duration
	}{
		"one trip each":     {limit: ratelimit.Shared{Limit: ratelimit.Limit{Permits: 500, Per: time.Second, Burst: 100}}, cost: 1},
		"leases":            {limit: ratelimit.Shared{Limit: ratelimit.Limit{Permits: 3000, Per: time.Second, Burst: 300}, Lease: 50}, cost: 1},
		"large leases":      {limit: ratelimit.Shared{Limit: ratelimit.Limit{Permits: 2000, Per: time.Second, Burst: 500}, Lease: 500}, cost: 1},
		"costs of 7":        {limit: ratelimit.Shared{Limit: ratelimit.Limit{Permits: 7000, Per: time.Second, Burst: 700}, Lease: 100}, cost: 7},
		"more than a lease": {limit: ratelimit.Shared{Limit: ratelimit.Limit{Permits: 7000, Per: time.Second, Burst: 700}, Lease: 5}, cost: 7},
		"leases that are held while the limit fills": {
			limit:  ratelimit.Shared{Limit: ratelimit.Limit{Permits: 2500, Per: time.Second, Burst: 400}, Lease: 100},
			cost:   1,
			gentle: 600 * time.Millisecond,
			silent: 300 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const processes, duration = 4, 1500 * time.Millisecond
			c.limit.Name = name
			server := redistest.Start(t)
			reports := inProcesses(t, processes, job{
				Addr: server.Addr(), Limit: c.limit, Key: "k", Cost: c.cost,
				Workers: 4, Duration: duration, Gentle: c.gentle, Silent: c.silent,
			})
			var spans []admissionSpan
			var stats Stats
			for _, r := range reports {
				spans = append(spans, r.Spans...)
				stats.Trips += r.Stats.Trips
				stats.LeaseHits += r.Stats.LeaseHits
				if r.Errors > 0 {
					t.Errorf("%d errors in a process", r.Errors)
				}
			}
			l := c.limit
			rate := float64(l.Permits) / l.Per.Seconds()
			var held float64
			if l.Lease > 1 {
				p := mustPlan(t, l.Limit)
				held = min(processes*float64(l.Lease), rate*p.lapse.Seconds())
			}
			over := overshoot(spans, float64(c.cost), float64(l.Burst), rate)
			used := float64(len(spans)) * float64(c.cost)
			t.Logf("%.0f permits used, %d trips, %d met by leases; worst span %+.1f permits beside burst + rate*t, at most %+.0f are promised",
				used, stats.Trips, stats.LeaseHits, over, held)
			if over > held {
				t.Errorf("%.1f permits more than burst + rate*t were used, at most %.0f are promised", over, held)
			}
			if want := rate * (duration - c.gentle - c.silent).Seconds() / 2; used < want {
				t.Errorf("only %.0f permits were used, the limit gives %.0f", used, 2*want)
			}
		})
	}
}
