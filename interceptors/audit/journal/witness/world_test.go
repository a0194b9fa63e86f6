package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// origin is the log's name in the tests. The keys are made for each test and sign nothing else.
const origin = "bank.example/ledger/audit"

// server is a witness as C2SP tlog-witness has them, of one log.
type server struct {
	log  note.Verifier
	name string
	key  ed25519.PrivateKey

	mu    sync.Mutex
	size  int64
	root  tlog.Hash
	asked int
}

func newServer(t *testing.T, log note.Verifier) (*server, *httptest.Server, note.Verifier) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	s := &server{log: log, name: "witness.example", key: private}
	encoded := append([]byte{cosignatureV1}, public...)
	key, err := NewVerifier(fmt.Sprintf("%s+%08x+%s", s.name, keyHash(s.name, encoded), base64.StdEncoding.EncodeToString(encoded)))
	check(t, err)
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return s, web, key
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	body, err := io.ReadAll(r.Body)
	head, signed, found := strings.Cut(string(body), "\n\n")
	if err != nil || !found || r.Method != http.MethodPost || r.URL.Path != "/some/where/add-checkpoint" {
		http.Error(w, "this is no request", http.StatusBadRequest)
		return
	}
	c, err := journal.OpenCheckpoint([]byte(signed), s.log)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	lines := strings.Split(head, "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if err != nil || old > int64(c.Size) {
		http.Error(w, "old is more than new", http.StatusBadRequest)
		return
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		proof = append(proof, h)
	}
	switch {
	case old == s.size && old == int64(c.Size) && c.Size > 0 && c.Root != s.root:
		http.Error(w, "other records", http.StatusConflict)
		return
	case old != s.size:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintln(w, s.size)
		return
	case (old == 0 || old == int64(c.Size)) && len(proof) > 0,
		old > 0 && old < int64(c.Size) && tlog.CheckTree(proof, int64(c.Size), c.Root, old, s.root) != nil:
		http.Error(w, "not consistent", http.StatusUnprocessableEntity)
		return
	}
	s.size, s.root = int64(c.Size), c.Root
	text, _, _ := strings.Cut(signed, "\n\n")
	_, _ = fmt.Fprint(w, s.cosign(text+"\n"))
}

// cosign returns the signature line of a checkpoint's text.
func (s *server) cosign(text string) string {
	at := uint64(time.Now().Unix())
	public := append([]byte{cosignatureV1}, s.key.Public().(ed25519.PublicKey)...)
	signature := binary.BigEndian.AppendUint32(nil, keyHash(s.name, public))
	signature = binary.BigEndian.AppendUint64(signature, at)
	signature = append(signature, ed25519.Sign(s.key, cosigned(at, []byte(text)))...)
	return fmt.Sprintf("— %s %s\n", s.name, base64.StdEncoding.EncodeToString(signature))
}

// keys makes a log's key.
func keys(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, origin)
	check(t, err)
	signer, err := note.NewSigner(private)
	check(t, err)
	verifier, err := note.NewVerifier(public)
	check(t, err)
	return signer, verifier
}

// grow adds records to a journal, in a run of its own, and returns the checkpoint then.
func grow(t *testing.T, dir string, opts journal.Options, record string, n int) journal.Checkpoint {
	t.Helper()
	opts.Create = true
	j, err := journal.Open(dir, opts)
	check(t, err)
	var last journal.Pending
	for i := range n {
		last, err = j.Begin(t.Context(), []byte(record+strconv.Itoa(i)))
		check(t, err)
	}
	if n > 0 {
		_, err = last.Wait(t.Context())
		check(t, err)
	}
	check(t, j.Close())
	return j.Checkpoint()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
