package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// exported exports to a file beside the journal, and returns its path and its manifest's.
func (w *world) exported(args ...string) (file, manifest string) {
	w.t.Helper()
	file = filepath.Join(filepath.Dir(w.dir), "export")
	w.must("export", append(args, "-out", file)...)
	return file, file + ".manifest.json"
}

func money() []audit.Record {
	intent := func(call uint64, amount, currency string, minor bool) audit.Record {
		return audit.Record{ID: id(call, 0), Type: audit.TypeIntent, Time: at(100), Transaction: audit.Transaction{ID: "t", Amount: amount, Currency: currency, MinorUnits: minor}}
	}
	return []audit.Record{
		intent(20, "0.1", "EUR", false), intent(21, "0.2", "EUR", false), intent(22, "5", "EUR", true), intent(23, "hmac:00000000:00", "EUR", false),
		intent(24, "1e9999999", "EUR", false), intent(25, "", "", false), intent(26, "-3.000", "CHF", false), intent(27, "9007199254740993.01", "USD", false),
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	w := bank(t, money()...)
	c, err := journal.ReadCheckpoint(w.dir, w.verifier)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(w.dir), "export")
	stdout := w.must("export", "-from", "2026-11-24T12:00:20Z", "-out", file)
	text := w.read(file)
	same(t, "the records", indexes(t, text), "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")
	same(t, "the summary", stdout, fmt.Sprintf(`export       %s, %d bytes
manifest     %s.manifest.json
checkpoint   18 records, root %s
records      16 of those from 0 to before 18
intents      12; 1 of -3.000 CHF; 5 of 121.055 EUR; 1 of 5 EUR in minor units; 1 of 500 JPY in minor units; 1 of 9007199254740993.01 USD; 1 sealed; 1 without an amount; 1 with an amount that is no number
outcomes ok  1; 1 of 100.50 EUR
`, file, len(text), file, c.Root))
	sum := sha256.Sum256([]byte(text))
	note, err := json.Marshal(string(c.Note))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the manifest", w.read(file+".manifest.json"), fmt.Sprintf(`{
  "manifest": "grpcguard-audit-export@v1",
  "file": {
    "name": "export",
    "format": "jsonl",
    "bytes": %d,
    "sha256": "%s"
  },
  "journal": "bank.example/ledger/audit",
  "checkpoint": {
    "size": 18,
    "root": "%s",
    "note": %s
  },
  "range": {
    "from": 0,
    "to": 18
  },
  "filter": {
    "from": "2026-11-24T12:00:20Z"
  },
  "count": 16,
  "first_index": 2,
  "last_index": 17,
  "earliest": "2026-11-24T12:00:20Z",
  "latest": "2026-11-24T12:01:40Z",
  "types": {
    "answered": 1,
    "denials": 1,
    "intent": 12,
    "outcome": 2
  },
  "outcomes": {
    "denied": 1,
    "failed": 1,
    "ok": 1
  },
  "intents": {
    "count": 12,
    "no_amount": 1,
    "sealed": 1,
    "unreadable": 1,
    "sums": [
      {
        "currency": "CHF",
        "count": 1,
        "amount": "-3.000"
      },
      {
        "currency": "EUR",
        "count": 5,
        "amount": "121.055"
      },
      {
        "currency": "EUR",
        "minor_units": true,
        "count": 1,
        "amount": "5"
      },
      {
        "currency": "JPY",
        "minor_units": true,
        "count": 1,
        "amount": "500"
      },
      {
        "currency": "USD",
        "count": 1,
        "amount": "9007199254740993.01"
      }
    ]
  },
  "outcomes_ok": {
    "count": 1,
    "no_amount": 0,
    "sealed": 0,
    "unreadable": 0,
    "sums": [
      {
        "currency": "EUR",
        "count": 1,
        "amount": "100.50"
      }
    ]
  }
}
`, len(text), hex.EncodeToString(sum[:]), c.Root, note))

	status, _, stderr := w.on("export", "-out", file)
	if want := "grpcguard audit export: " + file + " is there already, and is not written over\n"; status != 1 || stderr != want {
		t.Errorf("once more: exit status %d, %s", status, stderr)
	}
}

// An export is complete whatever came after it, in the same journal.
func TestExportChecks(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"jsonl", "csv"} {
		w := bank(t, hostile())
		file, manifest := w.exported("-from", "-2h", "-caller", anna, "-format", format)
		j := w.open(nil)
		add(t, j, settled(), audit.Record{ID: id(80, 0), Type: audit.TypeCall, Time: at(50), Caller: anna})
		w.close(j)
		stdout := w.must("export", "-check", manifest)
		_, verdict, _ := strings.Cut(stdout, "\nfilter ")
		same(t, format, verdict, `      {"from":"2026-11-24T11:30:00Z","caller":"spiffe://bank.example/teller/anna"}
journal      has 13 records now, and the first 11 are those of the export's checkpoint
result       COMPLETE: the file has every record that the filter means, as it was added, and nothing else
`)
		if _, err := os.Stat(file + ".partial"); err == nil {
			t.Error("a part is left")
		}
	}
}

func TestExportSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, business()...)
	since := w.write("since", string(covered(t, j).Note))
	add(t, j, settled(), hostile())
	w.close(j)
	file, manifest := w.exported("-since", since)
	same(t, "the records", indexes(t, w.read(file)), "10 11")
	if stdout, want := w.must("export", "-check", manifest), "records      2 of those from 10 to before 12\n"; !strings.Contains(stdout, want) {
		t.Errorf("%s\nwant %s", stdout, want)
	}
}

// Each difference is named, in the file and in the manifest.
func TestExportCheckNamesDifferences(t *testing.T) {
	t.Parallel()
	line := func(text string, n int) string { return strings.SplitAfter(text, "\n")[n] }
	replace := func(old, by string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, by, 1) }
	}
	tests := []struct {
		name, format string
		file         func(text string) string
		manifest     func(text string) string
		want         []string
	}{
		{"a line is removed", "jsonl", func(s string) string { return strings.Replace(s, line(s, 3), "", 1) }, nil, []string{"export: record 3 is missing"}},
		{"the last line is removed", "jsonl", func(s string) string { return strings.Replace(s, line(s, 9), "", 1) }, nil, []string{"export: record 9 is missing"}},
		{"a line is added", "jsonl", func(s string) string { return s + strings.Replace(line(s, 3), `"index":3`, `"index":33`, 1) }, nil, []string{"export: line 11 should not be there"}},
		{"a line is added in between", "jsonl", func(s string) string { return line(s, 0) + "{}\n" + s[len(line(s, 0)):] }, nil, []string{"export: line 2 is no record"}},
		{"a line is there twice", "jsonl", func(s string) string { return line(s, 0) + s }, nil, []string{"export: line 2 is record 0, which does not belong there"}},
		{"an amount is changed", "jsonl", replace("100.50", "900.50"), nil, []string{"export: line 3 is not record 2 as the journal has it"}},
		{"an amount is changed in CSV", "csv", replace("100.50", "900.50"), nil, []string{"export: line 4 is not record 2 as the journal has it"}},
		{"the header is changed", "csv", replace("to_account", "from_account"), nil, []string{"export: line 1 is not the header of the columns"}},
		{"the header is removed", "csv", func(s string) string { return s[len(line(s, 0)):] }, nil, []string{"export: line 1 is not the header of the columns"}},
		{"nothing is left", "csv", func(string) string { return "" }, nil, []string{"export: line 0 is not the header of the columns", "export: record 0 is missing", "export: record 9 is missing"}},
		{"the count is changed", "jsonl", nil, replace(`"count": 10`, `"count": 9`), []string{"manifest.json: count: the manifest says 9, the journal 10"}},
		{"a sum is changed", "jsonl", nil, replace(`"amount": "120.755"`, `"amount": "120.75"`), []string{
			`manifest.json: intents.sums: the manifest says [{"amount":"120.75","count":3,"currency":"EUR"},{"amount":"500","count":1,"currency":"JPY","minor_units":true}], the journal [{"amount":"120.755"`,
		}},
		{"the filter is changed", "jsonl", nil, replace(`"filter": {}`, `"filter": {"outcome": "ok"}`), []string{"manifest.json: count: the manifest says 10, the journal 2", "export: line 1 is record 0, which does not belong there"}},
		{"the size is changed", "jsonl", nil, replace(`"size": 10`, `"size": 11`), []string{"manifest.json: checkpoint.size: the manifest says 11, the journal 10"}},
		{"the range is changed", "jsonl", nil, replace(`"to": 10`, `"to": 9`), []string{"manifest.json: range.to: the manifest says 9, the journal 10"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := bank(t)
			file, manifest := w.exported("-format", tt.format)
			for path, change := range map[string]func(string) string{file: tt.file, manifest: tt.manifest} {
				if change == nil {
					continue
				}
				changed := change(w.read(path))
				if changed == w.read(path) {
					t.Fatal("nothing was changed")
				}
				if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			status, stdout, stderr := w.on("export", "-check", manifest)
			if status != 1 || stdout != "" || !strings.HasSuffix(stderr, "grpcguard audit export: NOT COMPLETE: the export is not what the journal gives\n") {
				t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%s\nwant %s", stderr, want)
				}
			}
		})
	}
}

func TestExportCheckAgainstAnotherJournal(t *testing.T) {
	t.Parallel()
	w := bank(t)
	_, manifest := w.exported()
	other := bank(t)
	if status, _, stderr := other.on("export", "-check", manifest); status != 1 || !strings.Contains(stderr, "the checkpoint does not verify") {
		t.Errorf("of another key: exit status %d, %s", status, stderr)
	}
	// One with the same key and other records.
	w.dir = t.TempDir()
	j := w.open(nil)
	records := business()
	records[2].Transaction.Amount = "1.50"
	add(t, j, records...)
	add(t, j, settled())
	w.close(j)
	if status, _, stderr := w.on("export", "-check", manifest); status != 1 || !strings.Contains(stderr, "NOT GOOD: ") || !strings.Contains(stderr, "the first 10 records do not hash to the signed checkpoint") {
		t.Errorf("rewritten: exit status %d, %s", status, stderr)
	}
	if status, _, stderr := w.on("export", "-check", w.write("m", `{"manifest":"x"}`)); status != 1 || !strings.Contains(stderr, `its form is "x", not "grpcguard-audit-export@v1"`) {
		t.Errorf("another form: exit status %d, %s", status, stderr)
	}
}

// What was deleted since cannot be compared, and is no reason to call an export complete.
func TestExportCheckAfterADeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(func(o *journal.Options) { o.SegmentBytes, o.Retention = 700, time.Nanosecond })
	add(t, j, business()...)
	covered(t, j)
	_, manifest := w.exported()
	first, err := j.Prune(context.Background())
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	status, _, stderr := w.on("export", "-check", manifest)
	if want := fmt.Sprintf("grpcguard audit export: NOT COMPLETE: the export begins with record 0 and the journal with %d: the records between were deleted since, and cannot be compared\n", first); status != 1 || stderr != want {
		t.Errorf("exit status %d, %s\nwant %s", status, stderr, want)
	}
}

// A manifest may be anybody's, and does nothing to a terminal either.
func TestExportCheckOfAHostileManifest(t *testing.T) {
	t.Parallel()
	w := bank(t)
	_, manifest := w.exported()
	changed := strings.Replace(w.read(manifest), `"call": 1`, "\"\u202ecall\\u001b[2J\": 1", 1)
	if err := os.WriteFile(manifest, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := w.on("export", "-check", manifest)
	if want := `"types.\u202ecall\x1b[2J: the manifest says 1, the journal nothing"`; status != 1 || !strings.Contains(stderr, want) {
		t.Errorf("exit status %d, %q\nwant %s", status, stderr, want)
	}
}

// Of a journal that is not good there is no export.
func TestNoExportOfATamperedJournal(t *testing.T) {
	t.Parallel()
	w := bank(t)
	segment := filepath.Join(w.dir, "segments", "00000000000000000000.seg")
	b := []byte(w.read(segment))
	b[len(b)-5] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(w.dir), "export")
	if status, _, stderr := w.on("export", "-out", file); status != 1 || !strings.HasPrefix(stderr, "grpcguard audit export: NOT GOOD: ") {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
}
