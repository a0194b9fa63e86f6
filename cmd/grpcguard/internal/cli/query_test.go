package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// indexes returns the indexes of records in JSON.
func indexes(t *testing.T, text string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(text) {
		var e struct {
			Index *uint64 `json:"index"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Index == nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, fmt.Sprint(*e.Index))
	}
	return strings.Join(out, " ")
}

func TestQueryFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, business()...)
	addBytes(t, j, []byte("no record, and "+anna))
	sealed := audit.Transaction{ID: "tx-9", FromAccount: "hmac:00000000:00", ToAccount: "DE9"}
	add(t, j, audit.Record{ID: id(10, 0), Type: audit.TypeIntent, Time: at(60), Transaction: sealed})
	w.close(j)
	tests := []struct{ flags, want string }{
		{"", "0 1 2 3 4 5 6 7 8 9 10 11"},
		{"-from 2026-11-24T12:00:30Z -to 2026-11-24T12:00:41Z", "4 5"},
		{"-from -1h29m25s", "5 6 7 8 9 11"},
		{"-to 2026-11-24", ""},
		{"-caller " + anna, "1 2 3 6 9"},
		{"-caller spiffe://bank.example/teller/*", "1 2 3 5 6 7 8 9"},
		{"-caller spiffe://evil.example/**", "4"},
		{"-method Pay", "2 3 4 6 9"},
		{"-method /bank.v1.Payments/Feed", "5 7 8"},
		{"-method bank.v1.Payments/Feed", "5 7 8"},
		{"-method v1.Payments/Feed", ""},
		{"-account DE1", "2 3 5 7"},
		{"-account DE", ""},
		{"-account DE9", "11"},
		{"-account hmac:00000000:00", "11"},
		{"-transaction tx-1", "2 3"},
		{"-outcome failed", "9"},
		{"-outcome denied", "4"},
		{"-type intent", "2 5 6 7 11"},
		{"-type foreign", "10"},
		{"-type journal", ""},
		{"-call 0000000000000abc0000000000000004", "5 7 8"},
		{"-call 0000000000000ABC0000000000000004.1", "5 7 8"},
		{"-trace " + strings.Repeat("7", 32), "1"},
		{"-type intent -caller " + anna, "2 6"},
		{"-limit 2", "0 1"},
	}
	for _, tt := range tests {
		if got := indexes(t, w.must("query", append(strings.Fields(tt.flags), "-format", "json")...)); got != tt.want {
			t.Errorf("query %s: records %q, want %q", tt.flags, got, tt.want)
		}
	}
	if _, _, stderr := w.on("query", "-limit", "2"); stderr != "note: there are more than 2; record 2 is the next\n" {
		t.Error(stderr)
	}
}

func TestQueryTable(t *testing.T) {
	t.Parallel()
	w := bank(t)
	same(t, "the table", w.must("query", "-from", "2026-11-24T12:00:30Z", "-limit", "4"), ""+
		"INDEX  TIME                      TYPE      OUTCOME  CALLER                              METHOD                        TRANSACTION  AMOUNT        FROM      TO        WHAT\n"+
		"4      2026-11-24T12:00:30.000Z  denials   denied   spiffe://evil.example/x             /bank.v1.Payments/Pay         -            -             -         -         \"PermissionDenied: rule: no rule allows the caller: count 7\"\n"+
		"5      2026-11-24T12:00:40.000Z  intent    -        spiffe://bank.example/teller/otto   /bank.v1.Payments/Feed        tx-2         20.25/EUR     DE3       DE1       -\n"+
		"6      2026-11-24T12:00:41.000Z  intent    -        spiffe://bank.example/teller/anna   /bank.v1.Payments/Pay         tx-4         500minor/JPY  DE2       DE4       -\n"+
		"7      2026-11-24T12:00:42.000Z  intent    -        spiffe://bank.example/teller/otto   /bank.v1.Payments/Feed        tx-3         0.005/EUR     DE3       DE1       -\n")
}

// hostile is a record of which callers chose the texts.
func hostile() audit.Record {
	return audit.Record{
		ID: id(66, 0), Type: audit.TypeIntent, Time: at(99), Method: "/x\x1b[2J\r\n/y", Caller: "-", Address: "=cmd|' /C calc'!A0",
		Reason: "\u202etxt.exe", Detail: "a\"b,\nc\\d\xff", RequestID: "＝1+1", EndUser: "'quoted", Callee: " @x",
		Transaction: audit.Transaction{ID: "+1", Amount: "-12.50", Currency: "-EUR", FromAccount: "\tDE1 DE2", ToAccount: strings.Repeat("9", 200)},
	}
}

// Nothing that a caller chose moves the cursor, turns text around, adds a line or a column, or is a formula.
func TestQueryOfHostileValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	add(t, j, hostile())
	w.close(j)
	table := w.must("query")
	_, row, _ := strings.Cut(table, "\n")
	same(t, "the table", row, `0      2026-11-24T12:01:39.000Z  intent    -        "-"                                 "/x\x1b[2J\r\n/y"             +1           -12.50/-EUR   "\tDE1 DE2"  "`+strings.Repeat("9", 100)+`..."  -`+"\n")

	text := w.must("query", "-format", "csv")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 2 || strings.Count(text, "\n") != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	got := make(map[string]string)
	for i, column := range rows[0] {
		got[column] = rows[1][i]
	}
	for column, want := range map[string]string{
		"method": `/x\u001b[2J\u000d\u000a/y`, "caller": "'-", "address": "'=cmd|' /C calc'!A0", "reason": `\u202etxt.exe`,
		"detail": "a\"b,\\u000ac\\\\d\uFFFD", "request_id": "'＝1+1", "end_user": "''quoted", "callee": "' @x", "transaction_id": "'+1",
		"amount": "-12.50", "currency": "'-EUR", "from_account": `\u0009DE1 DE2`,
	} {
		if got[column] != want {
			t.Errorf("CSV: %s is %q, want %q", column, got[column], want)
		}
	}

	line := w.must("query", "-format", "json")
	var e struct {
		Record struct {
			Method string `json:"method"`
			Reason string `json:"reason"`
		} `json:"record"`
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Record.Method != "/x\x1b[2J\r\n/y" || e.Record.Reason != "\u202etxt.exe" {
		t.Errorf("JSON: %v %+v", err, e)
	}
	for name, out := range map[string]string{"table": table, "csv": text, "json": line} {
		for _, c := range strings.ReplaceAll(out, "\n", "") {
			if unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control) {
				t.Errorf("%s: %U", name, c)
			}
		}
	}
}

func TestQueryOfWhatIsNoAuditRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := w.open(nil)
	addBytes(t, j, []byte("free\x1btext"))
	addBytes(t, j, nil)
	w.close(j)
	same(t, "JSON", w.must("query", "-format", "json"), `{"index":0,"data":"ZnJlZRt0ZXh0"}`+"\n"+`{"index":1,"data":""}`+"\n")
	if got, want := w.must("query"), "\"9 bytes that are no audit record\"\n"; !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// A sensitive account is found by its value, for who has the key.
func TestQueryOfASensitiveAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.write("sensitive.key", "a key that is long enough for a test")
	redactor, err := audit.NewRedactor([]byte(w.read(key)))
	if err != nil {
		t.Fatal(err)
	}
	j := w.open(nil)
	add(t, j, audit.Record{ID: id(1, 0), Type: audit.TypeIntent, Transaction: audit.Transaction{FromAccount: redactor.Text("DE1")}})
	w.close(j)
	if got := indexes(t, w.must("query", "-account", "DE1", "-format", "json")); got != "" {
		t.Errorf("without the key: %s", got)
	}
	if got := indexes(t, w.must("query", "-account", "DE1", "-sensitive-key", key, "-format", "json")); got != "0" {
		t.Errorf("with the key: %q", got)
	}
	short := w.write("short.key", "short")
	status, _, stderr := w.on("query", "-account", "DE1", "-sensitive-key", short)
	if want := "grpcguard audit query: -sensitive-key: a key for sensitive values has at least 32 bytes, and this one has 5\n"; status != statusUsage || !strings.HasPrefix(stderr, want) {
		t.Errorf("with a short key: exit status %d, %s", status, stderr)
	}
}
