package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

var keygenCommand = command{
	name: "keygen", args: "NAME [-out DIR]",
	does: "make the key pair of a journal",
	help: `
Makes the keys of a journal: audit.skey, with which the service signs checkpoints, and audit.vkey, with which anybody verifies them.
NAME becomes the log's origin: by convention a URL without a scheme that is yours. Files that are there are never written over.

  grpcguard audit keygen bank.example/ledger/audit -out keys

The service opens its journal with both:

  signer, err := note.NewSigner(skey)     // golang.org/x/mod/sumdb/note; skey is the text of audit.skey
  verifier, err := note.NewVerifier(vkey)
  j, err := journal.Open("/var/lib/ledger/audit", journal.Options{Signer: signer, Verifier: verifier, Create: true})

Who verifies should have audit.vkey from elsewhere than the disk that the journal is on.`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		out := fs.String("out", ".", "the `FOLDER` to write to")
		return func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return usage("one name makes one key pair, and %d are given", len(args))
			}
			return p.keygen(args[0], *out)
		}
	},
}

func (p *program) keygen(name, dir string) error {
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return err
	}
	// GenerateKey takes any name, and who reads the key does not.
	if _, err := note.NewVerifier(public); err != nil || name == "" {
		return usage("%q cannot be the name of a key: it must have letters and neither spaces nor a plus", name)
	}
	secret, open := filepath.Join(dir, "audit.skey"), filepath.Join(dir, "audit.vkey")
	// The one that is there is an answer before anything is written, and the exclusive writes hold to it.
	if _, err := os.Lstat(open); err == nil {
		return fmt.Errorf("%s is there already, and is not written over", open)
	}
	if err := writeNew(secret, []byte(private+"\n"), 0o600); err != nil {
		return err
	}
	if err := writeNew(open, []byte(public+"\n"), 0o644); err != nil {
		return errors.Join(err, os.Remove(secret))
	}
	fmt.Fprintf(p.stdout, "%s signs; only the service may read it\n%s verifies: %s\n", secret, open, public)
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, data []byte, perm os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and is not written over", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
