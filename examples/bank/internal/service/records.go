package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/durable"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// Records say where a process keeps what it records.
type Records struct {
	// Journal is the folder of the process's journal. A process without one writes its records to standard error, and proves nothing.
	Journal string
	// Key is the file of the key that signs the journal, NAME.skey; the one that verifies lies beside it, as NAME.vkey.
	Key string
	// Sensitive is the file of the key that what stands for account numbers is made with. All processes share it, so that an account
	// can be followed from one to the next.
	Sensitive string
}

func (r *Records) register() {
	flag.StringVar(&r.Journal, "journal", "", "the `folder` of the journal; without one records go to standard error")
	flag.StringVar(&r.Key, "journal-key", "audit.skey", "the `file` of the key that signs the journal, with the verifier's, .vkey, beside it")
	flag.StringVar(&r.Sensitive, "sensitive-key", "", "the `file` of the key for sensitive fields, 32 random bytes")
}

// checkpointEvery is shorter than the journal's half a second: whoever watches the demo waits for each checkpoint.
const checkpointEvery = 50 * time.Millisecond

// open opens the sink that the guards of this process write to. It is closed after them.
func (r *Records) open() (audit.Sink, io.Closer, error) {
	if r.Journal == "" {
		return audit.NewJSONLines(os.Stderr), io.NopCloser(nil), nil
	}
	signer, verifier, err := Keys(r.Key)
	if err != nil {
		return nil, nil, err
	}
	// A bank would create the journal once, by hand: then one that was removed is not begun anew in silence.
	sink, err := durable.Open(r.Journal, journal.Options{
		Signer: signer, Verifier: verifier, Create: true, CheckpointEvery: checkpointEvery,
		Failed: func(err error) { fmt.Fprintln(os.Stderr, err) },
	}, durable.Options{})
	return sink, sink, err
}

// Keys reads the two keys of a journal.
func Keys(path string) (note.Signer, note.Verifier, error) {
	name, ok := strings.CutSuffix(path, ".skey")
	if !ok {
		return nil, nil, fmt.Errorf("the key that signs is NAME.skey, not %s", path)
	}
	private, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	public, err := os.ReadFile(name + ".vkey")
	if err != nil {
		return nil, nil, err
	}
	signer, signerErr := note.NewSigner(strings.TrimSpace(string(private)))
	verifier, verifierErr := note.NewVerifier(strings.TrimSpace(string(public)))
	if err := errors.Join(signerErr, verifierErr); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, verifier, nil
}

// guard returns the option of a server that records sensitive fields. Without a key there is none, and the server does not start.
func (r *Records) guard() ([]interceptors.ServerOption, error) {
	if r.Sensitive == "" {
		return nil, nil
	}
	key, err := os.ReadFile(r.Sensitive)
	if err != nil {
		return nil, err
	}
	return []interceptors.ServerOption{interceptors.WithSensitiveKey(key)}, nil
}
