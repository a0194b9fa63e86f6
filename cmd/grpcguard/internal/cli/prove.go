package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

var proveCommand = command{
	name: "prove", args: "DIR -key FILE (INDEX | -id ID) [-out FILE] [-record FILE]",
	does: "write the proof that a record is in the journal",
	help: `
Writes a proof that a record is in the journal, which verify-proof checks elsewhere, without the journal. It is a C2SP tlog-proof with
the record's bytes in its line "extra", so that one file is all that has to be handed over besides the key. Others' tools can check it
as well; -record writes the bytes that they hash.

  grpcguard audit prove /var/lib/ledger/audit -key audit.vkey 4711 -out record-4711.tlog-proof`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		v := &proving{program: p}
		v.source.register(fs)
		fs.StringVar(&v.id, "id", "", "the record's `ID`, in place of its index")
		fs.StringVar(&v.out, "out", "", "the `FILE` to write the proof to; the default is standard output")
		fs.StringVar(&v.recordOut, "record", "", "a `FILE` to write the record's bytes to")
		return v.run
	},
}

// proving is one run of prove.
type proving struct {
	*program

	source         source
	id             string
	out, recordOut string
}

func (v *proving) run(ctx context.Context, args []string) error {
	index, args, err := v.index(args)
	if err != nil {
		return err
	}
	if err := v.source.open(args); err != nil {
		return err
	}
	c, err := v.source.checkpoint()
	if err != nil {
		return err
	}
	if v.id != "" {
		if index, err = v.find(ctx, c.Size); err != nil {
			return err
		}
	}
	record, err := v.record(index, c.Size)
	if err != nil {
		return err
	}
	proof, err := journal.ProveRecord(v.source.dir, v.source.verifier, index)
	if err != nil {
		return err
	}
	// The record's own checksum proves nothing; what is handed over must hold.
	if _, _, err := journal.CheckRecord(proof, record, v.source.verifier); err != nil {
		return fmt.Errorf("NOT GOOD: record %d is not the one that was added: %w", index, err)
	}
	if v.recordOut != "" {
		if err := writeNew(v.recordOut, record, 0o600); err != nil {
			return err
		}
	}
	proof = withRecord(proof, record)
	if v.out == "" {
		_, err = v.stdout.Write(proof)
		return err
	}
	if err := writeNew(v.out, proof, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(v.stdout, "%s proves record %d\n", v.out, index)
	return nil
}

// index takes the index from the arguments, which may stand before the folder or behind it.
func (v *proving) index(args []string) (uint64, []string, error) {
	if v.id != "" {
		if _, err := audit.ParseID(v.id); err != nil {
			return 0, nil, usage("-id: %w", err)
		}
		return 0, args, nil
	}
	if len(args) != 2 {
		return 0, nil, usage("a folder and the index of a record are needed, or -id; %d arguments are given", len(args))
	}
	index, err := strconv.ParseUint(args[1], 10, 63)
	if err != nil {
		return 0, nil, usage("%q is no index of a record", args[1])
	}
	return index, args[:1], nil
}

func (v *proving) find(ctx context.Context, size uint64) (uint64, error) {
	for r, err := range entry.Read(v.source.dir, 0, size) {
		if err != nil {
			return 0, err
		}
		if r.Index%1024 == 0 && ctx.Err() != nil {
			return 0, errors.New("interrupted")
		}
		if bytes.Contains(r.Data, []byte(v.id)) {
			if id, _ := entry.Head(r); id.String() == v.id {
				return r.Index, nil
			}
		}
	}
	return 0, fmt.Errorf("none of the %d records that the checkpoint covers has the ID %s", size, v.id)
}

func (v *proving) record(index, size uint64) ([]byte, error) {
	first, err := entry.First(v.source.dir)
	switch {
	case err != nil:
		return nil, err
	case index >= size:
		return nil, fmt.Errorf("record %d is not covered by the checkpoint of %d records", index, size)
	case index < first:
		return nil, fmt.Errorf("record %d was deleted; the journal begins with record %d", index, first)
	}
	for r, err := range journal.Records(v.source.dir, index, index+1) {
		return bytes.Clone(r.Data), err
	}
	return nil, fmt.Errorf("record %d is not there", index)
}

// withRecord puts a record into the line of a tlog-proof that is for what is needed to compute the leaf's hash.
func withRecord(proof, record []byte) []byte {
	head, rest, _ := bytes.Cut(proof, []byte("\n"))
	out := append(bytes.Clone(head), "\nextra "...)
	out = base64.StdEncoding.AppendEncode(out, record)
	out = append(out, '\n')
	return append(out, rest...)
}

// recordIn returns the record in a proof.
func recordIn(proof []byte) ([]byte, error) {
	_, rest, _ := bytes.Cut(proof, []byte("\n"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	text, ok := bytes.CutPrefix(line, []byte("extra "))
	if !ok {
		return nil, errors.New("the proof has no record in it, in a line that begins with \"extra\"; give the record's bytes as a second file")
	}
	record, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return nil, fmt.Errorf("the proof's line \"extra\" is no base64: %w", err)
	}
	return record, nil
}

var verifyProofCommand = command{
	name: "verify-proof", args: "PROOF [RECORD] -key FILE",
	does: "check such a proof, without the journal",
	help: `
Checks a proof offline: the signature under its checkpoint, and that the record hashes to it. Prints the record and what is proved. RECORD
is a file with the record's bytes, for proofs that do not hold it; PROOF may be -, standard input.

  grpcguard audit verify-proof record-4711.tlog-proof -key audit.vkey`,
	prepare: func(p *program, fs *flag.FlagSet) func(context.Context, []string) error {
		var s source
		s.register(fs)
		return func(_ context.Context, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage("a proof is needed, and at most a record; %d arguments are given", len(args))
			}
			if err := s.readKey(); err != nil {
				return err
			}
			return p.verifyProof(&s, args)
		}
	},
}

// maxProofFile bounds what is read: the largest record in base64, and a proof with many signatures.
const maxProofFile = 1 << 20

func (p *program) verifyProof(s *source, args []string) error {
	proof, err := p.readFile(args[0])
	if err != nil {
		return usageError{err}
	}
	var record []byte
	if len(args) == 2 {
		if record, err = p.readFile(args[1]); err != nil {
			return usageError{err}
		}
	} else if record, err = recordIn(proof); err != nil {
		return fmt.Errorf("NOT PROVED: %w", err)
	}
	index, c, err := journal.CheckRecord(proof, record, s.verifier)
	if err != nil {
		return fmt.Errorf("NOT PROVED: %w", err)
	}
	e := entry.Decode(journal.Record{Index: index, Data: record})
	line, err := show.AppendJSON(nil, &e)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "PROVED: these %d bytes are record %d of the journal %s, whose key %s+%08x signed a checkpoint of %d records with the root %s\n",
		len(record), index, s.verifier.Name(), s.verifier.Name(), s.verifier.KeyHash(), c.Size, c.Root)
	fmt.Fprintf(p.stdout, "It does not prove that what the record says is true, nor what other records say.\n%s", line)
	return nil
}

func (p *program) readFile(path string) ([]byte, error) {
	in := p.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxProofFile+1))
	if err == nil && len(data) > maxProofFile {
		err = fmt.Errorf("%s is larger than any proof", path)
	}
	return data, err
}
