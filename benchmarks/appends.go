package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// outcome is a record as a guard writes one at the end of a transaction.
var outcome = audit.Record{
	ID:   audit.ID{Guard: 0x5ad1f00d5ad1f00d, Call: 4711, Number: 1},
	Type: audit.TypeOutcome, Time: time.Date(2026, 11, 24, 9, 30, 0, 123_456_789, time.UTC), Duration: 3_456_789,
	Side: audit.SideServer, Service: "spiffe://bank.example/payment",
	TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7",
	Method: "/bench.v1.TransferService/Pay", Kind: "unary",
	Caller: "spiffe://bank.example/teller", CallerSerial: "3a1f7c9d0b2e4856a7c1d3e5f7091b2d", TrustDomain: "bank.example", Address: "10.4.17.23:48122",
	Decision: "allowed", Rule: "bench.v1.TransferService (bench/v1/bench.proto:11)", Reason: "listed caller",
	PolicyRevision: "2026-11-20", PolicyHash: "sha256:9c1185a5c5e9fc54612808977ee8f548b2258d31ddadef707ba62c166051b9e3",
	Outcome: audit.OutcomeOK, Code: codes.OK, Received: 1, Sent: 1, ReceivedBytes: 96, SentBytes: 6, Messages: 1,
	Transaction: audit.Transaction{
		ID: "tx-20261124-000004711", Amount: "12345", Currency: "EUR", MinorUnits: true,
		FromAccount: "DE89370400440532013000", ToAccount: "DE02120300000000202051",
	},
}

// encoded is what others write in its place.
var encoded = audit.AppendRecord(nil, &outcome)

// appender makes records durable.
type appender struct {
	name string
	// add returns when a record is durable. It is called by many.
	add func() error
	// settle waits for what add has left to others, so that the next one has the machine to itself.
	settle func() error
	close  func() error
}

func nothing() error { return nil }

func keys() (note.Signer, note.Verifier, error) {
	private, public, err := note.GenerateKey(rand.Reader, "bench.example/audit")
	if err != nil {
		return nil, nil, err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(public)
	return signer, verifier, err
}

// openSink opens a sink as a server would: with all defaults.
func openSink(d *disk) (*durable.Sink, error) {
	dir, err := d.folder()
	if err != nil {
		return nil, err
	}
	signer, verifier, err := keys()
	if err != nil {
		return nil, err
	}
	return durable.Open(dir, journal.Options{Signer: signer, Verifier: verifier, Create: true}, durable.Options{})
}

// newSinkAppender is ours: it encodes, sums, writes, syncs and hashes, and signs checkpoints.
func newSinkAppender(d *disk) (*appender, error) {
	sink, err := openSink(d)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return &appender{
		name:   "grpcguard",
		add:    func() error { return sink.Write(ctx, &outcome) },
		settle: func() error { return sink.Journal().WaitCheckpoint(ctx, sink.Journal().Size()) },
		close:  sink.Close,
	}, nil
}

// newEach writes and syncs each record by itself.
func newEach(d *disk) (*appender, error) {
	f, err := newFile(d)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	at := int64(0)
	add := func() error {
		mu.Lock()
		defer mu.Unlock()
		if _, err := f.WriteAt(encoded, at); err != nil {
			return err
		}
		at += int64(len(encoded))
		return datasync(f)
	}
	return &appender{syncEach, add, nothing, f.Close}, nil
}

func newFile(d *disk) (*os.File, error) {
	dir, err := d.folder()
	if err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(dir, "records"))
}

// group is a group commit and nothing else: no encoding, sums, hashing, tiles or checks.
type group struct {
	file *os.File
	wake chan struct{}

	mu  sync.Mutex
	buf []byte
	out *groupOutcome
}

type groupOutcome struct {
	done chan struct{}
	err  error
}

func newGroup(d *disk) (*appender, error) {
	f, err := newFile(d)
	if err != nil {
		return nil, err
	}
	g := &group{file: f, wake: make(chan struct{}, 1), out: &groupOutcome{done: make(chan struct{})}}
	go g.commit()
	return &appender{bareGroupCommit, g.add, nothing, func() error { close(g.wake); return f.Close() }}, nil
}

func (g *group) add() error {
	g.mu.Lock()
	first := len(g.buf) == 0
	g.buf = append(g.buf, encoded...)
	out := g.out
	g.mu.Unlock()
	if first {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
	<-out.done
	return out.err
}

func (g *group) commit() {
	var spare []byte
	at := int64(0)
	for range g.wake {
		g.mu.Lock()
		buf, out := g.buf, g.out
		g.buf, g.out = spare[:0], &groupOutcome{done: make(chan struct{})}
		g.mu.Unlock()
		if len(buf) > 0 {
			if _, out.err = g.file.WriteAt(buf, at); out.err == nil {
				out.err = datasync(g.file)
			}
			at += int64(len(buf))
		}
		spare = buf
		close(out.done)
	}
}

// newTessera is tessera's log on a disk. What its Add promises has then a place in the tree, and is durable.
func newTessera(name string, options *tessera.AppendOptions) func(d *disk) (*appender, error) {
	return func(d *disk) (*appender, error) {
		dir, err := d.folder()
		if err != nil {
			return nil, err
		}
		signer, _, err := keys()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		driver, err := posix.New(ctx, posix.Config{Path: dir})
		if err != nil {
			cancel()
			return nil, err
		}
		log, shutdown, _, err := tessera.NewAppender(ctx, driver, options.WithCheckpointSigner(signer))
		if err != nil {
			cancel()
			return nil, err
		}
		return &appender{
			name:   name,
			add:    func() error { _, err := log.Add(ctx, tessera.NewEntry(encoded))(); return err },
			settle: nothing,
			close:  func() error { defer cancel(); return shutdown(ctx) },
		}, nil
	}
}

// open opens appenders, all or none.
func open(d *disk, makers ...func(*disk) (*appender, error)) (all []*appender, err error) {
	for _, open := range makers {
		a, err := open(d)
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, a)
	}
	return all, nil
}

func closeAll(all []*appender) error {
	errs := make([]error, len(all))
	var closing sync.WaitGroup
	for i, a := range all {
		closing.Go(func() { errs[i] = a.close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
