//go:build unix

package otlpexport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// A cursor that does not fit would mean records that are never sent, so it is refused, in words that say which file and why.
func TestCursors(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 20)
	made := options(t)
	e, err := New(l.dir, l.verifier, conn(confirm), made)
	if err != nil {
		t.Fatal(err)
	}
	drain(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(made.Cursor)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(good), "grpcguard export cursor 1\njournal bank.example/ledger/audit\nnext 20\n\nbank.example/ledger/audit\n20\n") {
		t.Errorf("the cursor is\n%s", good)
	}
	shorter, other := closedLedger(t, 5), openLedger(t, t.TempDir())
	if _, err := other.Append(t.Context(), []byte("another record")); err != nil {
		t.Fatal(err)
	}
	other.calls(t, 30)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	swap := func(from, to string) string { return strings.Replace(string(good), from, to, 1) }
	for name, tt := range map[string]struct {
		text string
		in   *ledger
		want string // CURSOR and DIR stand for the paths
	}{
		"good":                {string(good), l, ""},
		"lowered by hand":     {swap("next 20", "next 7"), l, ""},
		"empty":               {"", l, "otlpexport: CURSOR is no cursor"},
		"of a later version":  {swap("cursor 1", "cursor 2"), l, "otlpexport: CURSOR is no cursor"},
		"cut short":           {string(good[:40]), l, "otlpexport: CURSOR is no cursor"},
		"no number":           {swap("next 20", "next -1"), l, "otlpexport: CURSOR is no cursor"},
		"of another name":     {swap("journal bank", "journal tank"), l, `otlpexport: CURSOR is the cursor of the journal "tank.example/ledger/audit", and this one is "bank.example/ledger/audit"`},
		"raised by hand":      {swap("next 20", "next 21"), l, "otlpexport: CURSOR says that 21 records were sent, and the journal in DIR has 20: it is another one, or was rolled back"},
		"of a longer journal": {string(good), shorter, "otlpexport: CURSOR says that 20 records were sent, and the journal in DIR has 5: it is another one, or was rolled back"},
		"of another journal of the same name": {
			string(good), other, "otlpexport: CURSOR holds a checkpoint that the journal in DIR does not lead to: it is another one, or was rolled back: " +
				"journal: the files are not those that the journal wrote: the first 20 records are not those of a known checkpoint",
		},
		"without its checkpoint": {
			string(good[:strings.Index(string(good), "\n\n")+2]), l, "otlpexport: CURSOR holds a checkpoint that the journal in DIR does not lead to: it is another one, or " +
				"was rolled back: journal: the checkpoint does not verify: malformed note",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			if err := os.WriteFile(opts.Cursor, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			e, err := New(tt.in.dir, tt.in.verifier, conn(confirm), opts)
			if err == nil {
				defer e.Close()
			}
			want := strings.NewReplacer("CURSOR", opts.Cursor, "DIR", tt.in.dir).Replace(tt.want)
			if got := message(err); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestOptions(t *testing.T) {
	t.Parallel()
	l := closedLedger(t, 1)
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for name, tt := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"no cursor":       {func(o *Options) { o.Cursor = "" }, "otlpexport: Options.Cursor must be given; without it nobody knows what was sent"},
		"no service":      {func(o *Options) { o.ServiceName = "" }, "otlpexport: Options.ServiceName must be given"},
		"negative count":  {func(o *Options) { o.BatchRecords = -1 }, "otlpexport: Options.BatchRecords is -1"},
		"negative bytes":  {func(o *Options) { o.BatchBytes = -1 }, "otlpexport: Options.BatchBytes is -1"},
		"negative time":   {func(o *Options) { o.Timeout = -1 }, "otlpexport: Options.Timeout is -1ns"},
		"negative period": {func(o *Options) { o.Every = -1 }, "otlpexport: Options.Every is -1ns"},
		"no folder": {
			func(o *Options) { o.Cursor = filepath.Join(nowhere, "cursor") },
			"otlpexport: open " + nowhere + "/cursor.lock: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			tt.change(&opts)
			if _, err := New(l.dir, l.verifier, conn(confirm), opts); message(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	_, err := New(nowhere, l.verifier, conn(confirm), options(t))
	if want := "otlpexport: " + journal.ErrTampered.Error() + ": " + nowhere + "/checkpoint is not there"; message(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
