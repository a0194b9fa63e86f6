package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/grpcguard/grpcguard/examples/bank/internal/service"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// book returns the journal of a workload, and makes its keys where there are none. Here they lie beside the journals; a bank would keep
// the one that signs where the service is, and the one that verifies with the auditor.
func (b *bank) book(workload string) (*book, error) {
	if kept := b.books[workload]; kept != nil {
		return kept, nil
	}
	name := strings.ReplaceAll(workload, "/", "-")
	kept := &book{dir: filepath.Join(b.dir, "journals", name), key: filepath.Join(b.dir, "keys", name+".skey")}
	private, public, err := note.GenerateKey(rand.Reader, "bank.example/"+workload+"/audit")
	if err != nil {
		return nil, err
	}
	for path, key := range map[string]string{kept.key: private, b.verifierKey(kept): public} {
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	if _, kept.verifier, err = service.Keys(kept.key); err != nil {
		return nil, err
	}
	kept.follower = journal.Follow(kept.dir, 0)
	b.books[workload] = kept
	return kept, nil
}

func (*bank) verifierKey(kept *book) string { return strings.TrimSuffix(kept.key, ".skey") + ".vkey" }

func (b *bank) sensitiveKey() string { return filepath.Join(b.dir, "keys", "sensitive") }

// newSensitiveKey makes the key that account numbers are hashed with.
func (b *bank) newSensitiveKey() error {
	for _, folder := range []string{"keys", "journals"} {
		if err := os.MkdirAll(filepath.Join(b.dir, folder), 0o700); err != nil {
			return err
		}
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // It never fails.
	return os.WriteFile(b.sensitiveKey(), key, 0o600)
}

// journals returns the names of the workloads that have one, in order.
func (b *bank) journals() []string { return slices.Sorted(maps.Keys(b.books)) }

// howToLook tells with which commands the journals can be looked at, from the root of the repository.
func (b *bank) howToLook(w io.Writer) {
	const command = "go run ./cmd/grpcguard audit"
	for _, name := range b.journals() {
		kept := b.books[name]
		fmt.Fprintf(w, "%s verify %s -key %s\n", command, kept.dir, b.verifierKey(kept))
	}
	ledger := b.books["ledger"]
	fmt.Fprintf(w, "%s query %s -key %s -account acc-carol -sensitive-key %s\n", command, ledger.dir, b.verifierKey(ledger), b.sensitiveKey())
}
