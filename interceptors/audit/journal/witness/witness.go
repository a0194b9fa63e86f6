package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	"golang.org/x/mod/sumdb/note"
)

// maxAnswer bounds what is read of a witness's answer: a few lines.
const maxAnswer = 16 << 10

// Config says which witness cosigns which journal. All fields but Client must be given.
type Config struct {
	// Dir is the journal's folder, and Log its key.
	Dir string
	Log note.Verifier
	// URL is what the witness's "/add-checkpoint" follows, and Key verifies its cosignatures: see NewVerifier.
	URL string
	Key note.Verifier
	// Kept is the file in which the latest cosigned checkpoint is kept. It is replaced whole and durably. A place on another disk than
	// the journal's is worth more.
	Kept string
	// Client asks; the default is http.DefaultClient. It should not follow redirects to places that are not the witness's. How long it may
	// take is said by the context: the journal gives ten seconds a checkpoint.
	Client *http.Client
}

// New returns a function for [journal.Options.Witness] that has each checkpoint cosigned by a C2SP tlog-witness, and keeps the latest one
// with its cosignature. It must not be called concurrently, and the journal does not.
//
// A witness that has cosigned more records than the journal has, or others, is an error that is a journal.ErrTampered.
func New(c Config) (func(context.Context, journal.Checkpoint) error, error) {
	if c.Dir == "" || c.Log == nil || c.URL == "" || c.Key == nil || c.Kept == "" {
		return nil, errors.New("witness: Config.Dir, Log, URL, Key and Kept must be given")
	}
	if c.Client == nil {
		c.Client = http.DefaultClient
	}
	kept, err := Kept(c.Kept, c.Log, c.Key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	w := &client{Config: c, kept: kept}
	return w.witness, nil
}

// Kept reads the checkpoint that New keeps in a file, with the signatures of both the journal and the witness. The error is
// fs.ErrNotExist if there is none yet.
func Kept(path string, log, key note.Verifier) (journal.Checkpoint, error) {
	signed, err := readNote(path)
	if err != nil {
		return journal.Checkpoint{}, err
	}
	c, err := journal.OpenCheckpoint(signed, log)
	if err == nil {
		_, err = note.Open(signed, note.VerifierList(key))
	}
	if err != nil {
		return journal.Checkpoint{}, fmt.Errorf("witness: %s: %w", path, err)
	}
	return c, nil
}

type client struct {
	Config

	kept journal.Checkpoint // without a note before the first
}

func (w *client) witness(ctx context.Context, c journal.Checkpoint) error {
	if w.kept.Note != nil {
		if err := c.Follows(w.Dir, w.kept); err != nil {
			return fmt.Errorf("witness: %s: %w", w.Kept, err)
		}
		if w.kept.Size == c.Size {
			return nil
		}
	}
	lines, has, err := w.add(ctx, c, w.kept.Size)
	if err == nil && lines == nil {
		// The witness has cosigned another one: of a run of this journal whose file Kept was lost, say.
		if has > c.Size {
			return fmt.Errorf("witness: %w: %s has cosigned %d records, and there are %d", journal.ErrTampered, w.URL, has, c.Size)
		}
		if lines, _, err = w.add(ctx, c, has); err == nil && lines == nil {
			err = fmt.Errorf("witness: %s cannot say how many records it has cosigned", w.URL)
		}
	}
	if err != nil {
		return err
	}
	signed, err := w.cosigned(c, lines)
	if err != nil {
		return err
	}
	if err := place(filepath.Dir(w.Kept), filepath.Base(w.Kept), signed, os.Rename); err != nil {
		return err
	}
	w.kept = journal.Checkpoint{Size: c.Size, Root: c.Root, Note: signed}
	return nil
}

// add asks for a cosignature. If there are no lines and no error, the witness has cosigned another number of records than old.
func (w *client) add(ctx context.Context, c journal.Checkpoint, old uint64) (lines []byte, has uint64, err error) {
	body, err := c.ProveSince(w.Dir, old)
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	url := strings.TrimSuffix(w.URL, "/") + "/add-checkpoint"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	response, err := w.Client.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("witness: %s: %w", url, err)
	case len(answer) > maxAnswer:
		return nil, 0, fmt.Errorf("witness: %s answers with more than %d bytes", url, maxAnswer)
	case response.StatusCode == http.StatusOK && len(answer) > 0:
		return answer, 0, nil
	case response.StatusCode == http.StatusConflict && response.Header.Get("Content-Type") == "text/x.tlog.size":
		text := strings.TrimSuffix(string(answer), "\n")
		if has, err = strconv.ParseUint(text, 10, 63); err != nil || strconv.FormatUint(has, 10) != text {
			return nil, 0, fmt.Errorf("witness: %s says that it has cosigned %q records", url, text)
		}
		if has == old {
			return nil, 0, fmt.Errorf("witness: %w: %s has cosigned other %d records", journal.ErrTampered, url, old)
		}
		return nil, has, nil
	case response.StatusCode == http.StatusConflict && old == c.Size:
		return nil, 0, fmt.Errorf("witness: %w: %s has cosigned other %d records", journal.ErrTampered, url, old)
	case response.StatusCode == http.StatusUnprocessableEntity:
		return nil, 0, fmt.Errorf("witness: %w: %s has cosigned %d records that this journal does not begin with", journal.ErrTampered, url, old)
	}
	return nil, 0, fmt.Errorf("witness: %s answers %q", url, response.Status)
}

// cosigned adds to a checkpoint the witness's signature, if it is among the lines and verifies, and nothing else.
func (w *client) cosigned(c journal.Checkpoint, lines []byte) ([]byte, error) {
	text, _, found := bytes.Cut(c.Note, []byte("\n\n"))
	if !found {
		return nil, errors.New("witness: the checkpoint has no signature")
	}
	alone := append(append(bytes.Clone(text), "\n\n"...), lines...)
	n, err := note.Open(alone, note.VerifierList(w.Key))
	if err != nil {
		return nil, fmt.Errorf("witness: %s answers with no cosignature of its own: %w", w.URL, err)
	}
	signed := bytes.Clone(c.Note)
	for _, s := range n.Sigs {
		signed = fmt.Appendf(signed, "— %s %s\n", s.Name, s.Base64)
	}
	return signed, nil
}
