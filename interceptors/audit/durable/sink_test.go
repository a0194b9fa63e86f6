package durable_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var signer, verifier = keys()

func keys() (note.Signer, note.Verifier) {
	private, public, err := note.GenerateKey(nil, "bank.example/ledger/audit")
	if err != nil {
		panic(err)
	}
	s, err := note.NewSigner(private)
	if err != nil {
		panic(err)
	}
	v, err := note.NewVerifier(public)
	if err != nil {
		panic(err)
	}
	return s, v
}

func open(t *testing.T, dir string, opts journal.Options, more durable.Options) *durable.Sink {
	t.Helper()
	opts.Signer, opts.Verifier, opts.Create = signer, verifier, true
	if more.MeterProvider == nil {
		more.MeterProvider = noop.NewMeterProvider()
	}
	s, err := durable.Open(dir, opts, more)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func records(t *testing.T, s *durable.Sink) (all []audit.Record) {
	t.Helper()
	for r, err := range s.Journal().Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		record, err := audit.ParseRecord(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A record that must be durable is in the journal when Write returns; one of best effort when the journal is closed.
func TestRecordsAreInTheJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, journal.Options{}, durable.Options{})
	must(t, s.Ready())
	kept := audit.Record{ID: audit.ID{Guard: 1, Call: 1}, Type: audit.TypeCall, Outcome: audit.OutcomeOK, Code: codes.OK, Method: "/a.B/C"}
	must(t, s.Write(t.Context(), &kept))
	if got := records(t, s); len(got) != 1 || got[0] != kept {
		t.Errorf("got %+v", got)
	}
	best := audit.Record{ID: audit.ID{Guard: 1, Call: 2}, Type: audit.TypeCall, Class: audit.BestEffort}
	must(t, s.Write(t.Context(), &best))
	must(t, s.Close())
	s = open(t, dir, journal.Options{}, durable.Options{})
	if got := records(t, s); len(got) != 2 || got[1].ID != best.ID {
		t.Errorf("got %+v", got)
	}
}

// What ends while its record waits for the disk does not lose the record; an intent is waited for no longer than its call lasts.
func TestACancelledCall(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), journal.Options{}, durable.Options{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(gone, &audit.Record{Type: audit.TypeIntent}); !errors.Is(err, context.Canceled) || errors.Is(err, audit.ErrUndecided) {
		t.Errorf("got %v", err)
	}
	must(t, s.Close())
}

func TestAJournalThatIsClosedKeepsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), journal.Options{}, durable.Options{})
	must(t, s.Journal().Close())
	if err := s.Ready(); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Write(t.Context(), &audit.Record{}); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("got %v", err)
	}
	must(t, s.Write(t.Context(), &audit.Record{Class: audit.BestEffort})) // nobody waits for it
	if err := s.Close(); err == nil || err.Error() != "durable: 1 records were dropped, and no record says so" {
		t.Errorf("got %v", err)
	}
}

// Drops are counted exactly, whoever drops, and the count is a record as soon as there is room.
func TestDropsAreCounted(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	s := open(t, t.TempDir(), journal.Options{BatchBytes: 4096}, durable.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	const writers, each = 8, 4000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				r := audit.Record{ID: audit.ID{Guard: uint64(w) + 1, Call: uint64(n)}, Type: audit.TypeCall, Class: audit.BestEffort, Service: "spiffe://a.test/b", Detail: strings.Repeat("x", 1000)}
				if err := s.Write(t.Context(), &r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var data metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &data))
	if err := s.Close(); err != nil && s.Dropped() == 0 {
		t.Error(err)
	}
	unreported := s.Dropped()
	s = open(t, s.Journal().Dir(), journal.Options{}, durable.Options{})
	var kept, reported uint64
	for _, r := range records(t, s) {
		if r.Event != audit.EventDropped {
			kept++
			continue
		}
		reported += r.Count
		if r.Service != "spiffe://a.test/b" || r.Type != audit.TypeEvent || r.ID == (audit.ID{}) {
			t.Errorf("%+v", r)
		}
	}
	if kept+reported+unreported != writers*each || reported+unreported == 0 {
		t.Errorf("%d kept, %d reported as dropped, %d not yet, of %d", kept, reported, unreported, writers*each)
	}
	counted := int64(-1)
	for _, m := range data.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "grpcguard.audit.records.dropped" {
			counted = sum.DataPoints[0].Value
		}
	}
	if counted != int64(reported+unreported) {
		t.Errorf("the metric has %d", counted)
	}
}

// More calls than may wait are refused, so that a disk that stands still cannot fill the memory.
func TestTooManyWait(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), journal.Options{}, durable.Options{MaxWaiting: 1})
	var refused, kept int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				err := s.Write(t.Context(), &audit.Record{Type: audit.TypeCall})
				mu.Lock()
				switch {
				case err == nil:
					kept++
				case errors.Is(err, journal.ErrBehind) && err.Error() == "journal: the disk is behind, and the record was not taken: 1 calls wait":
					refused++
				default:
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if kept == 0 || refused == 0 || uint64(kept) != s.Journal().Size() {
		t.Errorf("%d kept, %d refused, %d in the journal", kept, refused, s.Journal().Size())
	}
}

// An outcome waits however many others do: the handler has run.
func TestOutcomesAreNotTooMany(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), journal.Options{}, durable.Options{MaxWaiting: 1})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				if err := s.Write(t.Context(), &audit.Record{Type: audit.TypeOutcome}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if size := s.Journal().Size(); size != 64*20 {
		t.Errorf("%d in the journal", size)
	}
}

// While a guard's start waits for a disk that stands still, nothing else waits that need not.
func TestAStartThatWaitsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	var still sync.Mutex // The journal asks for the time before it begins a segment, and here for each commit but the first.
	asked := make(chan struct{}, 16)
	s := open(t, t.TempDir(), journal.Options{BatchBytes: 1 << 10, SegmentBytes: 4 << 10, Now: func() time.Time {
		asked <- struct{}{}
		still.Lock()
		defer still.Unlock()
		return time.Now()
	}}, durable.Options{})
	<-asked
	big := audit.Record{Type: audit.TypeCall, Class: audit.BestEffort, Detail: strings.Repeat("x", 8<<10)}
	durableOne := big
	durableOne.Class = audit.Durable
	must(t, s.Write(t.Context(), &durableOne))
	still.Lock()
	started, offered := make(chan error, 1), make(chan struct{})
	go func() {
		started <- s.Write(t.Context(), &audit.Record{Type: audit.TypeEvent, Event: audit.EventStarted})
	}()
	<-asked
	go func() {
		defer close(offered)
		for s.Dropped() == 0 {
			if err := s.Write(t.Context(), &big); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	select {
	case <-offered:
	case <-time.After(10 * time.Second):
		t.Error("a record that nobody waits for waits for the start of a guard")
	}
	still.Unlock()
	must(t, <-started)
	<-offered
}

// The hint is not written through what lies in its place.
func TestStartsAreNotWrittenThroughALink(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, []byte("precious"), 0o600))
	s := open(t, dir, journal.Options{}, durable.Options{})
	must(t, os.Symlink(other, filepath.Join(dir, "starts.new")))
	must(t, s.Write(t.Context(), &audit.Record{Type: audit.TypeEvent, Event: audit.EventStarted}))
	if data, err := os.ReadFile(other); err != nil || string(data) != "precious" {
		t.Errorf("got %q, %v", data, err)
	}
}

// A guard that starts with another policy than before says so, with both hashes.
func TestPolicyChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(service, hash, revision string) {
		t.Helper()
		s := open(t, dir, journal.Options{}, durable.Options{})
		r := audit.Record{ID: audit.ID{Guard: 7, Call: 1}, Type: audit.TypeEvent, Event: audit.EventStarted, Side: audit.SideServer, Service: service, Subject: hash, PolicyHash: hash, PolicyRevision: revision}
		must(t, s.Write(t.Context(), &r))
		must(t, s.Close())
	}
	start("spiffe://a.test/ledger", "aaaa", "1")
	start("spiffe://a.test/account", "cccc", "1")
	start("spiffe://a.test/ledger", "aaaa", "2")
	start("spiffe://a.test/ledger", "bbbb", "3")
	start("spiffe://a.test/account", "cccc", "1")
	must(t, os.Remove(filepath.Join(dir, "starts")))
	start("spiffe://a.test/ledger", "bbbb", "3")
	must(t, os.WriteFile(filepath.Join(dir, "starts"), []byte(`{"server spiffe://a.test/ledger":{"index":1}}`), 0o600))
	start("spiffe://a.test/ledger", "bbbb", "3")
	var got []string
	for _, r := range records(t, open(t, dir, journal.Options{}, durable.Options{})) {
		got = append(got, fmt.Sprintf("%s %s %s %q", r.Event, strings.TrimPrefix(r.Service, "spiffe://a.test/"), r.Subject, r.Detail))
	}
	want := []string{
		`started ledger aaaa ""`,
		`started account cccc ""`,
		`started ledger aaaa ""`,
		`policy-changed ledger bbbb "before, it was aaaa (revision \"2\")"`,
		`started ledger bbbb ""`,
		`started account cccc ""`,
		`policy-changed ledger bbbb "no earlier start of this guard is known"`,
		`started ledger bbbb ""`,
		`policy-changed ledger bbbb "no earlier start of this guard is known"`,
		`started ledger bbbb ""`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What the journal complains of is in the journal, once a minute.
func TestTroubleIsRecorded(t *testing.T) {
	t.Parallel()
	told := make(chan error, 16)
	tries := 0
	s := open(t, t.TempDir(), journal.Options{
		Witness: func(context.Context, journal.Checkpoint) error {
			if tries++; tries <= 2 {
				return errors.New("unreachable")
			}
			return nil
		},
		Trouble: func(err error) { told <- err },
	}, durable.Options{})
	must(t, s.Write(t.Context(), &audit.Record{Type: audit.TypeCall}))
	for range 2 {
		if err := <-told; !strings.HasSuffix(err.Error(), "unreachable") {
			t.Errorf("got %v", err)
		}
	}
	must(t, s.Close())
	s = open(t, s.Journal().Dir(), journal.Options{}, durable.Options{})
	var events []string
	for _, r := range records(t, s) {
		if r.Type != audit.TypeEvent {
			continue
		}
		events = append(events, fmt.Sprintf("%s %s %v", r.Event, r.Detail, r.Subject == s.Journal().Dir()))
	}
	if len(events) != 1 || !strings.HasPrefix(events[0], "journal-trouble journal: the witness did not take checkpoint ") {
		t.Errorf("got %q", events)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := durable.Open(t.TempDir(), journal.Options{}, durable.Options{MaxWaiting: -1}); err == nil || err.Error() != "durable: Options.MaxWaiting is -1" {
		t.Errorf("got %v", err)
	}
	if _, err := durable.Open(t.TempDir(), journal.Options{Signer: signer, Verifier: verifier}, durable.Options{}); !errors.Is(err, journal.ErrNoJournal) {
		t.Errorf("got %v", err)
	}
}
