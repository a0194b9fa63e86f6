package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrNoRecord says that bytes are not the canonical encoding of a record.
var ErrNoRecord = errors.New("audit: not a record in its canonical encoding")

// ParseRecord reads the canonical encoding of a record. Fields that a newer version of the schema has are passed over; whatever else
// is not canonical is an ErrNoRecord.
func ParseRecord(b []byte) (Record, error) { //nolint:gocyclo // A case for each field.
	var r Record
	d := decoder{b: b}
	for d.next() {
		switch d.field {
		case 1:
			r.ID = d.id()
		case 2:
			r.Type = d.typ()
		case 3:
			r.Time = d.time()
		case 4:
			r.Side = Side(d.text())
		case 5:
			r.Service = d.text()
		case 6:
			r.Method = d.text()
		case 7:
			r.Kind = d.text()
		case 8:
			r.Caller = d.text()
		case 9:
			r.CallerSerial = d.text()
		case 10:
			r.TrustDomain = d.text()
		case 11:
			r.Address = d.text()
		case 12:
			r.EndUser = d.text()
		case 13:
			r.Callee = d.text()
		case 14:
			r.Decision = d.text()
		case 15:
			r.Rule = d.text()
		case 16:
			r.Reason = d.text()
		case 17:
			r.Stage = d.text()
		case 18:
			r.Outcome = Outcome(d.text())
		case 19:
			if r.Code = d.code(); r.Outcome == "" {
				d.failf("is there without an outcome")
			}
		case 20:
			r.Duration = time.Duration(d.number())
		case 21:
			r.Received = d.number()
		case 22:
			r.Sent = d.number()
		case 23:
			r.ReceivedBytes = d.number()
		case 24:
			r.SentBytes = d.number()
		case 25:
			r.TraceID = d.text()
		case 26:
			r.SpanID = d.text()
		case 27:
			r.RequestID = d.text()
		case 28:
			r.PolicyRevision = d.text()
		case 29:
			r.PolicyHash = d.text()
		case 30:
			r.Transaction = d.transaction()
		case 31:
			r.Messages = d.number()
		case 32:
			r.Event = EventName(d.text())
		case 33:
			r.Subject = d.text()
		case 34:
			r.Count = d.number()
		case 35:
			r.Detail = d.text()
		case 36:
			r.Cut = d.flag()
		}
	}
	if d.err != nil {
		return Record{}, d.err
	}
	return r, nil
}

// ParseHead reads as much of a record as it takes to tell what it is of: its ID and its type. It does not look at the rest.
func ParseHead(b []byte) (id ID, t Type, err error) {
	d := decoder{b: b}
	for d.next() && d.field <= 2 {
		switch d.field {
		case 1:
			id = d.id()
		case 2:
			t = d.typ()
		}
	}
	return id, t, d.err
}

// decoder reads one message. After an error it has nothing more.
type decoder struct {
	b     []byte
	field int
	value []byte // of a field that has bytes
	n     uint64 // of a field that is a number
	bytes bool
	err   error
}

func (d *decoder) failf(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: field %d: %s", ErrNoRecord, d.field, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) next() bool {
	if d.err != nil || len(d.b) == 0 {
		return false
	}
	field, kind, n := protowire.ConsumeTag(d.b)
	if n < 0 || n != protowire.SizeTag(field) {
		d.failf("the one after it cannot be read")
		return false
	}
	last := d.field
	d.field, d.b = int(field), d.b[n:]
	if d.field <= last {
		d.failf("comes after field %d", last)
		return false
	}
	switch kind {
	case protowire.VarintType:
		d.bytes = false
		if d.n, n = protowire.ConsumeVarint(d.b); n < 0 || n != protowire.SizeVarint(d.n) || d.n == 0 {
			d.failf("its number is not as short as it can be")
			return false
		}
	case protowire.BytesType:
		d.bytes = true
		if d.value, n = protowire.ConsumeBytes(d.b); n < 0 || n != protowire.SizeBytes(len(d.value)) {
			d.failf("its length is wrong")
			return false
		}
	default:
		d.failf("is neither a number nor bytes")
		return false
	}
	d.b = d.b[n:]
	return true
}

func (d *decoder) number() uint64 {
	if d.bytes {
		d.failf("is no number")
		return 0
	}
	return d.n
}

func (d *decoder) flag() bool {
	n := d.number()
	if n > 1 {
		d.failf("is %d, and can be 0 or 1", n)
	}
	return n == 1
}

func (d *decoder) raw() []byte {
	if !d.bytes {
		d.failf("is no bytes")
		return nil
	}
	return d.value
}

func (d *decoder) text() string {
	v := d.raw()
	if d.err == nil && (len(v) == 0 || !utf8.Valid(v)) {
		d.failf("is empty or no UTF-8")
	}
	return string(v)
}

// typ reads a type. The known ones cost no memory: who verifies a journal reads nothing but heads of most records.
func (d *decoder) typ() Type {
	for _, t := range [...]Type{TypeCall, TypeIntent, TypeAnswered, TypeOutcome, TypeDenials, TypeEvent} {
		if string(d.raw()) == string(t) {
			return t
		}
	}
	return Type(d.text())
}

func (d *decoder) id() ID {
	id, ok := parseID(d.raw())
	if !ok {
		d.failf("is no record ID")
	}
	return id
}

func (d *decoder) time() time.Time {
	inner := decoder{b: d.raw()}
	var seconds, nanos uint64
	for inner.next() {
		switch inner.field {
		case 1:
			seconds = inner.number()
		case 2:
			nanos = inner.number()
		default:
			inner.failf("is not known")
		}
	}
	if inner.err != nil || nanos >= uint64(time.Second) {
		d.failf("is no time")
		return time.Time{}
	}
	return time.Unix(int64(seconds), int64(nanos)).UTC()
}

func (d *decoder) transaction() Transaction {
	inner := decoder{b: d.raw()}
	var t Transaction
	for inner.next() {
		switch inner.field {
		case 1:
			t.ID = inner.text()
		case 2:
			t.Amount = inner.text()
		case 3:
			t.Currency = inner.text()
		case 4:
			t.MinorUnits = inner.flag()
		case 5:
			t.FromAccount = inner.text()
		case 6:
			t.ToAccount = inner.text()
		}
	}
	if inner.err != nil {
		d.failf("%v", inner.err)
	}
	return t
}

// codesByName has the codes of gRPC by the names that [codes.Code.String] gives them.
var codesByName = func() map[string]codes.Code {
	all := make(map[string]codes.Code)
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		all[c.String()] = c
	}
	return all
}()

// code reads a code by its name; handlers can end a call with numbers that have none.
func (d *decoder) code() codes.Code {
	text := d.text()
	if c, ok := codesByName[text]; ok {
		return c
	}
	digits, ok := strings.CutPrefix(text, "Code(")
	n, err := strconv.ParseUint(strings.TrimSuffix(digits, ")"), 10, 32)
	if c := codes.Code(n); ok && err == nil && c.String() == text {
		return c
	}
	d.failf("%q is no status code", text)
	return 0
}
