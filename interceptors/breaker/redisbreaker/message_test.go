package redisbreaker

import (
	"strings"
	"testing"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0f", idSize)
	longest := strings.Repeat("n", maxName)
	tests := []struct {
		message, value, name string
		ok                   bool
	}{
		{"1 " + id + " 7 ledger", "1 " + id + " 7", "ledger", true},
		{"1 " + id + " 7 spiffe://bank.test/ledger /bank.v1.Ledger/Transfer", "1 " + id + " 7", "spiffe://bank.test/ledger /bank.v1.Ledger/Transfer", true},
		{"1 " + id + " 18446744073709551615 " + longest, "1 " + id + " 18446744073709551615", longest, true},
		{message: "1 " + id + " 18446744073709551615 " + longest + "n"},
		{message: "1 " + id + " 18446744073709551616 ledger"},
		{message: "1 " + id + " 7 "},
		{message: "1 " + id + " 7"},
		{message: "1 " + id + " 07 ledger"},
		{message: "1 " + id + " +7 ledger"},
		{message: "1 " + id + " -7 ledger"},
		{message: "1 " + id + "  ledger"},
		{message: "1 " + strings.ToUpper(id) + " 7 ledger"},
		{message: "1 " + id[1:] + " 7 ledger"},
		{message: "1  7 ledger"},
		{message: "2 " + id + " 7 ledger"},
		{message: ""},
		{message: "1"},
		{message: "1 "},
		{message: strings.Repeat("x", 1<<20)},
	}
	for _, tt := range tests {
		value, name, ok := parseMessage(tt.message)
		if ok != tt.ok || ok && (value != tt.value || name != tt.name) {
			t.Errorf("%.60q: %q, %q, %v, want %q, %q, %v", tt.message, value, name, ok, tt.value, tt.name, tt.ok)
		}
	}
}

// What is understood is what a sharer writes, to the byte, and within its bounds.
func FuzzMessage(f *testing.F) {
	f.Add(messageOf(valueOf(newID(), 1), "ledger"))
	f.Add("1 " + strings.Repeat("a", 2*idSize) + " 10 a b c")
	f.Add("1 x 1 y")
	f.Fuzz(func(t *testing.T, s string) {
		value, name, ok := parseMessage(s)
		if !ok {
			return
		}
		if messageOf(value, name) != s || !isValue(value) || !isName(name) || len(value) > maxValue || len(name) > maxName {
			t.Errorf("%q is read as %q, %q", s, value, name)
		}
	})
}
