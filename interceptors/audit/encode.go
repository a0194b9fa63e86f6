package audit

import (
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// What a text of a record holds, in bytes. A method or an error can be as long as a caller makes it.
const (
	maxText   = 1 << 10
	maxDetail = 8 << 10
)

// AppendRecord appends the canonical encoding of r to b, which grpcguard.v1.Record defines. Whatever r holds, the encoding has less
// than 64 KiB, and is valid protobuf.
func AppendRecord(b []byte, r *Record) []byte {
	e := encoder{b: b}
	e.id(1, r.ID)
	e.text(2, string(r.Type))
	e.time(3, r.Time)
	e.text(4, string(r.Side))
	e.text(5, r.Service)
	e.text(6, r.Method)
	e.text(7, r.Kind)
	e.text(8, r.Caller)
	e.text(9, r.CallerSerial)
	e.text(10, r.TrustDomain)
	e.text(11, r.Address)
	e.text(12, r.EndUser)
	e.text(13, r.Callee)
	e.text(14, r.Decision)
	e.text(15, r.Rule)
	e.text(16, r.Reason)
	e.text(17, r.Stage)
	e.text(18, string(r.Outcome))
	if r.Outcome != "" {
		e.text(19, r.Code.String())
	}
	e.number(20, uint64(r.Duration))
	e.number(21, r.Received)
	e.number(22, r.Sent)
	e.number(23, r.ReceivedBytes)
	e.number(24, r.SentBytes)
	e.text(25, r.TraceID)
	e.text(26, r.SpanID)
	e.text(27, r.RequestID)
	e.text(28, r.PolicyRevision)
	e.text(29, r.PolicyHash)
	e.transaction(30, &r.Transaction)
	e.number(31, r.Messages)
	e.text(32, string(r.Event))
	e.text(33, r.Subject)
	e.number(34, r.Count)
	e.bounded(35, r.Detail, maxDetail)
	e.flag(36, e.cut || r.Cut)
	return e.b
}

type encoder struct {
	b   []byte
	cut bool
}

func (e *encoder) number(field protowire.Number, v uint64) {
	if v != 0 {
		e.b = protowire.AppendTag(e.b, field, protowire.VarintType)
		e.b = protowire.AppendVarint(e.b, v)
	}
}

func (e *encoder) flag(field protowire.Number, v bool) {
	if v {
		e.number(field, 1)
	}
}

func (e *encoder) text(field protowire.Number, s string) { e.bounded(field, s, maxText) }

func (e *encoder) bounded(field protowire.Number, s string, most int) {
	if s == "" {
		return
	}
	s, cut := clean(s, most)
	e.cut = e.cut || cut
	e.b = protowire.AppendTag(e.b, field, protowire.BytesType)
	e.b = protowire.AppendString(e.b, s)
}

func (e *encoder) id(field protowire.Number, id ID) {
	if id == (ID{}) {
		return
	}
	var room [callDigits + 1 + 20]byte
	e.b = protowire.AppendTag(e.b, field, protowire.BytesType)
	e.b = protowire.AppendBytes(e.b, id.append(room[:0]))
}

func (e *encoder) time(field protowire.Number, t time.Time) {
	if t.IsZero() {
		return
	}
	inner := e.begin(field)
	e.number(1, uint64(t.Unix()))
	e.number(2, uint64(t.Nanosecond()))
	e.end(inner)
}

func (e *encoder) transaction(field protowire.Number, t *Transaction) {
	if *t == (Transaction{}) {
		return
	}
	inner := e.begin(field)
	e.text(1, t.ID)
	e.text(2, t.Amount)
	e.text(3, t.Currency)
	e.flag(4, t.MinorUnits)
	e.text(5, t.FromAccount)
	e.text(6, t.ToAccount)
	e.end(inner)
}

// begin begins a message, and returns where; end puts its length there.
func (e *encoder) begin(field protowire.Number) int {
	e.b = protowire.AppendTag(e.b, field, protowire.BytesType)
	e.b = append(e.b, 0)
	return len(e.b)
}

func (e *encoder) end(start int) {
	n := len(e.b) - start
	size := protowire.SizeVarint(uint64(n))
	for range size - 1 {
		e.b = append(e.b, 0)
	}
	copy(e.b[start+size-1:], e.b[start:start+n])
	protowire.AppendVarint(e.b[:start-1], uint64(n))
}

// clean makes s valid UTF-8 of at most so many bytes, and reports whether it was longer.
func clean(s string, most int) (_ string, cut bool) {
	if len(s) > most {
		s, cut = s[:most], true
		// Not in the middle of a rune, which would then pass for one that was invalid.
		for i := 1; i < utf8.UTFMax && i <= len(s); i++ {
			if last := s[len(s)-i:]; utf8.RuneStart(last[0]) {
				if !utf8.FullRuneInString(last) {
					s = s[:len(s)-i]
				}
				break
			}
		}
	}
	if utf8.ValidString(s) {
		return s, cut
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > most { // A replacement is longer than what it replaces.
		s, _ = clean(s, most)
		cut = true
	}
	return s, cut
}
