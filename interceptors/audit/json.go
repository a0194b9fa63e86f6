package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// AppendJSON appends the JSON form of r to b, on one line without a line break. It is protobuf's JSON mapping of grpcguard.v1.Record,
// with the names of the schema and plain numbers. Control characters are escaped.
func AppendJSON(b []byte, r *Record) ([]byte, error) {
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(jsonOf(r)); err != nil {
		return b, fmt.Errorf("audit: encode record: %w", err)
	}
	return escapeControls(bytes.TrimSuffix(out.Bytes(), []byte("\n")), len(b)), nil
}

// escapeControls escapes, behind from, what JSON lets be and terminals do not: DEL, the control characters above ASCII, and those that
// change the direction of text.
func escapeControls(b []byte, from int) []byte {
	if bytes.IndexFunc(b[from:], controls) < 0 {
		return b
	}
	line := bytes.Clone(b[from:])
	b = b[:from]
	for _, c := range string(line) {
		if controls(c) {
			b = fmt.Appendf(b, "\\u%04x", c)
		} else {
			b = utf8.AppendRune(b, c)
		}
	}
	return b
}

func controls(c rune) bool {
	return c >= 0x7f && (c < 0xa0 || unicode.In(c, unicode.Bidi_Control))
}

// jsonRecord fixes the names and the order of the keys.
type jsonRecord struct {
	ID             string           `json:"id,omitempty"`
	Type           string           `json:"type,omitempty"`
	Time           string           `json:"time,omitempty"`
	Side           string           `json:"side,omitempty"`
	Service        string           `json:"service,omitempty"`
	Method         string           `json:"method,omitempty"`
	Kind           string           `json:"kind,omitempty"`
	Caller         string           `json:"caller,omitempty"`
	CallerSerial   string           `json:"caller_serial,omitempty"`
	TrustDomain    string           `json:"trust_domain,omitempty"`
	Address        string           `json:"address,omitempty"`
	EndUser        string           `json:"end_user,omitempty"`
	Callee         string           `json:"callee,omitempty"`
	Decision       string           `json:"decision,omitempty"`
	Rule           string           `json:"rule,omitempty"`
	Reason         string           `json:"reason,omitempty"`
	Stage          string           `json:"stage,omitempty"`
	Outcome        string           `json:"outcome,omitempty"`
	Code           string           `json:"code,omitempty"`
	DurationNS     int64            `json:"duration_ns,omitempty"`
	Received       uint64           `json:"received,omitempty"`
	Sent           uint64           `json:"sent,omitempty"`
	ReceivedBytes  uint64           `json:"received_bytes,omitempty"`
	SentBytes      uint64           `json:"sent_bytes,omitempty"`
	TraceID        string           `json:"trace_id,omitempty"`
	SpanID         string           `json:"span_id,omitempty"`
	RequestID      string           `json:"request_id,omitempty"`
	PolicyRevision string           `json:"policy_revision,omitempty"`
	PolicyHash     string           `json:"policy_hash,omitempty"`
	Transaction    *jsonTransaction `json:"transaction,omitempty"`
	Messages       uint64           `json:"messages,omitempty"`
	Event          string           `json:"event,omitempty"`
	Subject        string           `json:"subject,omitempty"`
	Count          uint64           `json:"count,omitempty"`
	Detail         string           `json:"detail,omitempty"`
	Cut            bool             `json:"cut,omitempty"`
}

type jsonTransaction struct {
	ID          string `json:"id,omitempty"`
	Amount      string `json:"amount,omitempty"`
	Currency    string `json:"currency,omitempty"`
	MinorUnits  bool   `json:"minor_units,omitempty"`
	FromAccount string `json:"from_account,omitempty"`
	ToAccount   string `json:"to_account,omitempty"`
}

func jsonOf(r *Record) jsonRecord {
	cut := r.Cut
	bounded := func(s string, most int) string {
		s, longer := clean(s, most)
		cut = cut || longer
		return s
	}
	text := func(s string) string { return bounded(s, maxText) }
	j := jsonRecord{
		Type: text(string(r.Type)), Side: text(string(r.Side)), Service: text(r.Service), Method: text(r.Method), Kind: text(r.Kind),
		Caller: text(r.Caller), CallerSerial: text(r.CallerSerial), TrustDomain: text(r.TrustDomain), Address: text(r.Address),
		EndUser: text(r.EndUser), Callee: text(r.Callee),
		Decision: text(r.Decision), Rule: text(r.Rule), Reason: text(r.Reason), Stage: text(r.Stage), Outcome: text(string(r.Outcome)),
		DurationNS: r.Duration.Nanoseconds(), Received: r.Received, Sent: r.Sent, ReceivedBytes: r.ReceivedBytes, SentBytes: r.SentBytes,
		TraceID: text(r.TraceID), SpanID: text(r.SpanID), RequestID: text(r.RequestID),
		PolicyRevision: text(r.PolicyRevision), PolicyHash: text(r.PolicyHash),
		Messages: r.Messages, Event: text(string(r.Event)), Subject: text(r.Subject), Count: r.Count, Detail: bounded(r.Detail, maxDetail),
	}
	if r.ID != (ID{}) {
		j.ID = r.ID.String()
	}
	if !r.Time.IsZero() {
		j.Time = r.Time.UTC().Format(time.RFC3339Nano)
	}
	if r.Outcome != "" {
		j.Code = r.Code.String()
	}
	if t := r.Transaction; t != (Transaction{}) {
		j.Transaction = &jsonTransaction{
			ID: text(t.ID), Amount: text(t.Amount), Currency: text(t.Currency), MinorUnits: t.MinorUnits, FromAccount: text(t.FromAccount),
			ToAccount: text(t.ToAccount),
		}
	}
	j.Cut = cut
	return j
}
