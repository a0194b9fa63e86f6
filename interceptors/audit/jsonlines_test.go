package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

func TestALineForARecord(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &audit.Record{
		Time: time.Date(2026, 11, 24, 1, 2, 3, 4, time.FixedZone("", 3600)), Duration: 1500, Side: audit.SideServer, Outcome: audit.OutcomeDenied,
		Code: codes.PermissionDenied, Method: "/a.B/C", Caller: "spiffe://a.test/b", Reason: "no-rule", Received: 2,
	}
	if err := audit.NewJSONLines(&out).Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-11-24T00:02:03.000000004Z","side":"server","method":"/a.B/C","caller":"spiffe://a.test/b","reason":"no-rule",` +
		`"outcome":"denied","code":"PermissionDenied","duration_ns":1500,"received":2}` + "\n"
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", &out, want)
	}
}

// What a caller chooses can neither break its line nor look like another record.
func TestRecordsCannotBeForged(t *testing.T) {
	t.Parallel()
	for name, hostile := range map[string]string{
		"a line break":        "/a.B/C\n{\"outcome\":\"ok\"}",
		"a quote":             `/a.B/C","outcome":"ok`,
		"a carriage return":   "a\rb",
		"a NUL":               "a\x00b",
		"invalid UTF-8":       "a\xff\xfeb",
		"a line separator":    "a\u2028b",
		"an escape for a TTY": "a\x1b[2Jb",
		"another of one rune": "a\u009b2Jb\x7f",
		"text from the right": "a\u202egnp.exe",
		"a megabyte":          strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := &audit.Record{Method: hostile, Detail: hostile, Reason: hostile, Address: hostile, Caller: hostile, Outcome: audit.OutcomeDenied}
			if err := audit.NewJSONLines(&out).Write(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(out.String(), "\n"); n != 1 || out.Len() > 100_000 {
				t.Errorf("%d lines, %d bytes", n, out.Len())
			}
			for _, c := range out.String()[:out.Len()-1] {
				if c < ' ' || c == '\u2028' || c == '\u202e' || c >= '\x7f' && c < '\xa0' {
					t.Errorf("%q is written as it is", c)
				}
			}
			var back map[string]any
			if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["outcome"] != "denied" {
				t.Errorf("%v %v", err, back["outcome"])
			}
		})
	}
}

type shortWriter struct{ err error }

func (w shortWriter) Write(p []byte) (int, error) { return len(p) / 2, w.err }

// Half a line on the disk would be glued to the next record.
func TestASinkThatFailedStaysBroken(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for want, w := range map[error]io.Writer{full: shortWriter{full}, io.ErrShortWrite: shortWriter{}} {
		sink := audit.NewJSONLines(w)
		for range 3 {
			if err := sink.Write(t.Context(), &audit.Record{}); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	}
}

func TestLinesOfManyWritersStayWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	sink := audit.NewJSONLines(&out)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if err := sink.Write(t.Context(), &audit.Record{Method: "/a.B/C"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for line := range strings.Lines(out.String()) {
		n++
		if !json.Valid([]byte(line)) {
			t.Errorf("%q", line)
		}
	}
	if n != 800 {
		t.Errorf("%d lines", n)
	}
	if err := audit.Discard.Write(context.Background(), nil); err != nil {
		t.Error(err)
	}
}
