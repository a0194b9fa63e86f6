package cli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// source is the journal that a command reads.
type source struct {
	dir      string
	keyFile  string
	verifier note.Verifier
}

func (s *source) register(fs *flag.FlagSet) {
	fs.StringVar(&s.keyFile, "key", "", "a `FILE` with the journal's verifier key, as keygen writes it to audit.vkey")
}

// open takes the folder from the arguments, and reads the key.
func (s *source) open(args []string) error {
	switch len(args) {
	case 0:
		return usage("which folder holds the journal?")
	case 1:
	default:
		return usage("one folder holds a journal, and %d arguments are given: %q", len(args), args)
	}
	s.dir = args[0]
	if err := s.readKey(); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return usageError{err}
	}
	if !info.IsDir() {
		return usage("%s is no folder", s.dir)
	}
	_, noCheckpoint := os.Stat(filepath.Join(s.dir, "checkpoint"))
	_, noSegments := os.Stat(filepath.Join(s.dir, "segments"))
	if errors.Is(noCheckpoint, fs.ErrNotExist) && errors.Is(noSegments, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no journal", s.dir)
	}
	return nil
}

func (s *source) readKey() error {
	if s.keyFile == "" {
		return usage("-key is missing: without a verifier key nothing can be believed")
	}
	data, err := os.ReadFile(s.keyFile)
	if err != nil {
		return usage("-key: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, "PRIVATE+KEY+") {
		return usage("-key: %s holds the key that signs; give the one that verifies, audit.vkey, and keep the other where the service is", s.keyFile)
	}
	if s.verifier, err = note.NewVerifier(text); err != nil {
		return usage("-key: %s holds no verifier key: %w", s.keyFile, err)
	}
	return nil
}

// checkpoint reads the latest checkpoint.
func (s *source) checkpoint() (journal.Checkpoint, error) {
	return journal.ReadCheckpoint(s.dir, s.verifier)
}

// begins returns the first index that is there, and tells p if others were deleted.
func (s *source) begins(p *program) (uint64, error) {
	first, err := entry.First(s.dir)
	if err == nil && first > 0 {
		fmt.Fprintf(p.stderr, "note: the journal begins with record %d; those before it were deleted, which verify proves\n", first)
	}
	return first, err
}

// files are the values of a flag that may be given more than once.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(path string) error {
	*f = append(*f, path)
	return nil
}

// readCheckpoint reads a file with a signed checkpoint.
func (s *source) readCheckpoint(name, path string) (journal.Checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return journal.Checkpoint{}, usage("%s: %w", name, err)
	}
	c, err := journal.OpenCheckpoint(data, s.verifier)
	if err != nil {
		return journal.Checkpoint{}, fmt.Errorf("%s %s: %w", name, path, err)
	}
	return c, nil
}
