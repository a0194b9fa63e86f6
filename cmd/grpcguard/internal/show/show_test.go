package show_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/entry"
	"github.com/grpcguard/grpcguard/cmd/grpcguard/internal/show"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

func TestCell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "-", "-": `"-"`, "DE1": "DE1", "a b": `"a b"`, `a"b`: `"a\"b"`, `a\b`: `"a\\b"`, "\x1b[0m": `"\x1b[0m"`, "M\u00fcller": `"M\u00fcller"`,
		"\u202ex": `"\u202ex"`, "\xff": `"\xff"`, "a\u00a0b": `"a\u00a0b"`, strings.Repeat("x", 101): `"` + strings.Repeat("x", 100) + `..."`,
	} {
		if got := show.Cell(text); got != want {
			t.Errorf("Cell(%q) = %s, want %s", text, got, want)
		}
	}
}

// What is no record is shown as bytes, and a deletion as what it says.
func TestJSONOfADeletion(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	e := entry.Entry{Index: 7, Type: entry.Journal, Pruned: journal.Pruned{Before: 3, Newest: at, Retention: 60, At: at}}
	line, err := show.AppendJSON(nil, &e)
	want := `{"index":7,"pruned":{"before":3,"root":"` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `","newest":"2026-11-24T12:00:00Z","retention_seconds":60,"at":"2026-11-24T12:00:00Z"}}` + "\n"
	if err != nil || string(line) != want {
		t.Errorf("%s%v\nwant %s", line, err, want)
	}
}

// Whatever a record holds, each form of it is one line without control characters, CSV has all its columns and gives the text back,
// JSON can be read, and a table has no cell more.
func FuzzForms(f *testing.F) {
	seeds := []string{"", "plain", "=1+1", " =1+1", "'", "\\u001b", "\x1b[2J", "a,b\"c\nd\re", "\u202e", "\u2028", "\xff", "＝", "-1.5", "-1.5\n", `\`, " x ", strings.Repeat("é", 200)}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		full := audit.Record{
			Type: "t", Method: text, Caller: text, Reason: text, Detail: text, Subject: text, Outcome: audit.Outcome(text),
			Transaction: audit.Transaction{ID: text, Amount: text, Currency: text, FromAccount: text, ToAccount: text},
		}
		e := entry.Decode(journal.Record{Data: audit.AppendRecord(nil, &full)})
		if !e.IsRecord() {
			t.Fatalf("%q is no record", text)
		}
		line := string(show.AppendCSV(nil, &e))
		rows, err := csv.NewReader(strings.NewReader(show.CSVHeader + line)).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatalf("%v in %q", err, line)
		}
		for i, column := range rows[0] {
			switch column {
			case "method":
				if got := original(t, rows[1][i]); got != e.Record.Method {
					t.Errorf("CSV gives %q back as %q", e.Record.Method, got)
				}
				if first := strings.TrimLeft(rows[1][i], " "); first != "" && strings.ContainsAny(first[:1], "=+-@\t\r") {
					t.Errorf("a formula: %q", rows[1][i])
				}
			case "amount":
				if _, err := strconv.ParseFloat(rows[1][i], 64); err != nil && strings.HasPrefix(rows[1][i], "-") {
					t.Errorf("a formula: %q", rows[1][i])
				}
			}
		}
		object, err := show.AppendJSON(nil, &e)
		if err != nil || !json.Valid(object) {
			t.Errorf("%v in %q", err, object)
		}
		var table bytes.Buffer
		p, err := show.NewPrinter(&table, show.FormatTable)
		if err == nil {
			err = p.Print(&e)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{line, string(object), strings.SplitAfterN(table.String(), "\n", 2)[1]} {
			if body, ok := strings.CutSuffix(out, "\n"); !ok || strings.ContainsFunc(body, func(c rune) bool { return unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control) }) {
				t.Errorf("not one clean line: %q", out)
			}
		}
	})
}

// original undoes what CSV does to a text.
func original(t *testing.T, cell string) string {
	t.Helper()
	cell = strings.TrimPrefix(cell, "'")
	var out strings.Builder
	for {
		before, after, found := strings.Cut(cell, `\`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if rest, ok := strings.CutPrefix(after, `\`); ok {
			out.WriteByte('\\')
			cell = rest
			continue
		}
		c, err := strconv.ParseUint(after[1:5], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteRune(rune(c))
		cell = after[5:]
	}
}
