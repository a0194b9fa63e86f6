package interceptors

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// sinkFunc is a sink that the test writes.
type sinkFunc func(ctx context.Context, r *audit.Record) error

func (f sinkFunc) Write(ctx context.Context, r *audit.Record) error { return f(ctx, r) }

func recorderTo(t *testing.T, sink audit.Sink) *recorder {
	t.Helper()
	return newRecorder(sink, audit.SideServer, "spiffe://a.test/b", &policy.Policy{}, config{onSinkError: func(err error) { t.Error(err) }})
}

// Who flushes at the end waits for counts that are just being written, and a sink that stands still is waited for by two goroutines and no more.
func TestCountsAreWrittenBeforeTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		writing, free := 0, make(chan struct{})
		var total uint64
		d := newDenials(recorderTo(t, sinkFunc(func(_ context.Context, r *audit.Record) error {
			writing++
			<-free
			writing--
			total += r.Count
			return nil
		})), 1)
		for range 10 {
			for range 3 {
				d.counts(&audit.Record{Caller: "spiffe://a.test/c", Reason: "no-rule"}, true)
			}
			time.Sleep(countEvery)
			synctest.Wait()
		}
		if writing != 1 {
			t.Errorf("%d goroutines wait for the sink", writing)
		}
		flushed := false
		go func() { d.flush(); flushed = true }()
		synctest.Wait()
		if flushed {
			t.Error("the counts are not with the sink")
		}
		close(free)
		synctest.Wait()
		if !flushed || total != 28 { // of 30, and two had records of their own
			t.Errorf("%v, %d", flushed, total)
		}
	})
}

// A record of several says nothing that only the first of them said.
func TestCountsSayWhatIsTrueOfAll(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ first, want audit.Record }{
		"a transaction": {
			audit.Record{Caller: "spiffe://a.test/c", Transaction: audit.Transaction{ID: "t1"}, Messages: 1, Detail: "it", RequestID: "r"},
			audit.Record{Caller: "spiffe://a.test/c"},
		},
		"a handshake": {
			audit.Record{Caller: "spiffe://a.test/claimed", Address: "192.0.2.1:1", Event: audit.EventHandshakeRefused},
			audit.Record{Address: "192.0.2.1:1", Event: audit.EventHandshakeRefused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []audit.Record
			d := newDenials(recorderTo(t, sinkFunc(func(_ context.Context, r *audit.Record) error { got = append(got, *r); return nil })), 1)
			for range 3 {
				d.counts(&tt.first, true)
			}
			d.flush()
			tt.want.Type, tt.want.Class, tt.want.Count = audit.TypeDenials, audit.BestEffort, 2
			if len(got) == 1 {
				tt.want.ID = got[0].ID
			}
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// However many addresses somebody comes from, those who have proved who they are are told apart, and no count is lost.
func TestStrangersDoNotHideCallers(t *testing.T) {
	t.Parallel()
	got := make(map[string]uint64)
	alone := uint64(0)
	d := newDenials(recorderTo(t, sinkFunc(func(_ context.Context, r *audit.Record) error { got[r.Caller] += r.Count; return nil })), 1)
	const strangers = 2 * maxGroups
	for range 3 {
		for n := range strangers {
			if !d.counts(&audit.Record{Address: fmt.Sprintf("[2001:db8::%x]:1", n), Event: audit.EventHandshakeRefused, Caller: "spiffe://a.test/claimed"}, false) {
				alone++
			}
		}
		for _, caller := range []string{"spiffe://a.test/c", "spiffe://a.test/d"} {
			if !d.counts(&audit.Record{Caller: caller, Address: "192.0.2.1:1", Reason: "no-rule"}, true) {
				alone++
			}
		}
	}
	if len(d.groups) > maxStrangers+3 {
		t.Errorf("%d groups", len(d.groups))
	}
	d.flush()
	if got["spiffe://a.test/c"] != 2 || got["spiffe://a.test/d"] != 2 || got[""]+got["spiffe://a.test/c"]+got["spiffe://a.test/d"]+alone != 3*strangers+6 {
		t.Errorf("got %v, and %d of their own", got, alone)
	}
}
