package audit_test

import (
	"math"
	"strings"
	"testing"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// An ID is read in the one form in which it is written.
func TestParseID(t *testing.T) {
	t.Parallel()
	for _, id := range []audit.ID{{}, {Guard: 1, Call: 2, Number: 3}, {Guard: math.MaxUint64, Call: 0xfedcba9876543210, Number: math.MaxUint64}} {
		if got, err := audit.ParseID(id.String()); got != id || err != nil {
			t.Errorf("%s is read as %s, %v", id, got, err)
		}
	}
	call := strings.Repeat("0", 32)
	for _, text := range []string{
		"", call, call + ".", call + ".01", call + ".x", call + ".+1", call + ".18446744073709551616", call + ".99999999999999999999",
		call[1:] + ".1", call + "0.1", call[1:] + "A.1", call[1:] + "g.1", call[1:] + "/.1", call[1:] + ":.1", call[1:] + "`.1", call + ".1 ",
	} {
		if id, err := audit.ParseID(text); err == nil {
			t.Errorf("%q is read as %s", text, id)
		}
	}
}

// Who verifies a journal reads nothing but the heads of most records, so they are cheap.
func TestParseHeadAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	record := audit.AppendRecord(nil, &audit.Record{ID: audit.ID{Guard: 1, Call: 2, Number: 3}, Type: audit.TypeIntent})
	if n := testing.AllocsPerRun(100, func() { _, _, _ = audit.ParseHead(record) }); n > 0 {
		t.Errorf("ParseHead allocates %v times", n)
	}
}
