package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// JSONLines is a [Sink] that writes each record to an io.Writer as one line of JSON, with one Write a line. What a caller
// chose is escaped: no record can break its line or forge another one, and invalid UTF-8 is replaced. After a Write that
// failed or was short the sink is broken, since what follows could be glued to half a line: it returns that error for good.
// It neither flushes nor syncs nor closes the writer.
type JSONLines struct {
	mu     sync.Mutex
	w      io.Writer
	broken error
}

// NewJSONLines returns a sink that writes to w.
func NewJSONLines(w io.Writer) *JSONLines { return &JSONLines{w: w} }

// Write implements [Sink].
func (s *JSONLines) Write(_ context.Context, r *Record) error { return s.line(toJSON(r)) }

// WriteEvent implements [EventSink]. The line of an event has the key "event", which no record has.
func (s *JSONLines) WriteEvent(_ context.Context, e *Event) error {
	return s.line(jsonEvent{
		Time: e.Time.UTC().Format(time.RFC3339Nano), Event: e.Name, Side: e.Side, Service: e.Service, Subject: valid(e.Subject),
		Detail: valid(e.Detail), TraceID: e.TraceID, SpanID: e.SpanID,
	})
}

func (s *JSONLines) line(v any) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("audit: encode record: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if n, err := s.w.Write(line.Bytes()); err != nil {
		s.broken = fmt.Errorf("audit: write record: %w", err)
	} else if n < line.Len() {
		s.broken = fmt.Errorf("audit: write record: %w", io.ErrShortWrite)
	}
	return s.broken
}

// jsonRecord fixes the names and the order of a line's keys. Times are UTC, durations nanoseconds, codes by name.
type jsonRecord struct {
	Time           string  `json:"time"`
	Side           Side    `json:"side"`
	Outcome        Outcome `json:"outcome"`
	Code           string  `json:"code"`
	Method         string  `json:"method,omitempty"`
	Kind           string  `json:"kind,omitempty"`
	Service        string  `json:"service,omitempty"`
	Caller         string  `json:"caller,omitempty"`
	CallerSerial   string  `json:"caller_serial,omitempty"`
	Address        string  `json:"address,omitempty"`
	Callee         string  `json:"callee,omitempty"`
	Decision       string  `json:"decision,omitempty"`
	Rule           string  `json:"rule,omitempty"`
	Reason         string  `json:"reason,omitempty"`
	Stage          string  `json:"stage,omitempty"`
	Detail         string  `json:"detail,omitempty"`
	DurationNS     int64   `json:"duration_ns"`
	Received       uint64  `json:"received"`
	Sent           uint64  `json:"sent"`
	TraceID        string  `json:"trace_id,omitempty"`
	SpanID         string  `json:"span_id,omitempty"`
	PolicyRevision string  `json:"policy_revision,omitempty"`
	PolicyHash     string  `json:"policy_hash,omitempty"`
}

type jsonEvent struct {
	Time    string    `json:"time"`
	Event   EventName `json:"event"`
	Side    Side      `json:"side"`
	Service string    `json:"service,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	TraceID string    `json:"trace_id,omitempty"`
	SpanID  string    `json:"span_id,omitempty"`
}

func toJSON(r *Record) jsonRecord {
	return jsonRecord{
		Time:           r.Time.UTC().Format(time.RFC3339Nano),
		Side:           r.Side,
		Outcome:        r.Outcome,
		Code:           r.Code.String(),
		Method:         valid(r.Method),
		Kind:           r.Kind,
		Service:        r.Service,
		Caller:         valid(r.Caller),
		CallerSerial:   r.CallerSerial,
		Address:        valid(r.Address),
		Callee:         r.Callee,
		Decision:       r.Decision,
		Rule:           r.Rule,
		Reason:         valid(r.Reason),
		Stage:          r.Stage,
		Detail:         valid(r.Detail),
		DurationNS:     r.Duration.Nanoseconds(),
		Received:       r.Received,
		Sent:           r.Sent,
		TraceID:        r.TraceID,
		SpanID:         r.SpanID,
		PolicyRevision: r.PolicyRevision,
		PolicyHash:     r.PolicyHash,
	}
}

// longest is how much of one string a line holds. A method or an error can be as long as a caller makes it.
const longest = 8 << 10

func valid(s string) string {
	if len(s) > longest {
		s = s[:longest] + "[cut]"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
