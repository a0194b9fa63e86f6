package otlpexport

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

const scope = "github.com/grpcguard/grpcguard/interceptors/audit"

// logOf makes a log record of whatever the journal holds. There is nothing that it leaves out.
func logOf(r journal.Record, now time.Time) *logs.LogRecord {
	l := &logs.LogRecord{ObservedTimeUnixNano: nanos(now)}
	a := &attributes{list: make([]*common.KeyValue, 0, 24)}
	a.number("grpcguard.record.index", r.Index)
	if p, ok := journal.ParsePruned(r.Data); ok {
		fromPruned(l, a, p)
	} else if record, err := audit.ParseRecord(r.Data); err == nil {
		fromRecord(l, a, &record)
	} else {
		a.text("grpcguard.detail", err.Error())
		l.EventName = "grpcguard.unreadable"
		l.Body = &common.AnyValue{Value: &common.AnyValue_BytesValue{BytesValue: append([]byte(nil), r.Data...)}}
		severe(l, logs.SeverityNumber_SEVERITY_NUMBER_WARN)
	}
	l.Attributes = a.list
	return l
}

// fromPruned says what the journal recorded of a deletion.
func fromPruned(l *logs.LogRecord, a *attributes, p journal.Pruned) {
	l.TimeUnixNano = nanos(p.At)
	l.EventName = "grpcguard.journal-pruned"
	l.Body = text(fmt.Sprintf("event journal-pruned, records before %d", p.Before))
	severe(l, logs.SeverityNumber_SEVERITY_NUMBER_INFO)
	a.text("grpcguard.type", string(audit.TypeEvent))
	a.text("grpcguard.event", "journal-pruned")
	a.number("grpcguard.pruned.before", p.Before)
	a.text("grpcguard.pruned.root", base64.StdEncoding.EncodeToString(p.Root[:]))
	a.text("grpcguard.pruned.newest", p.Newest.UTC().Format(time.RFC3339Nano))
	a.number("grpcguard.pruned.retention_seconds", uint64(p.Retention))
}

// fromRecord uses the names of OpenTelemetry's semantic conventions where they have one, and those of the JSON form with grpcguard
// before them for the rest.
func fromRecord(l *logs.LogRecord, a *attributes, r *audit.Record) {
	l.TimeUnixNano = nanos(r.Time)
	l.EventName = "grpcguard." + string(r.Type)
	if r.Type == audit.TypeEvent {
		l.EventName = "grpcguard." + string(r.Event)
	}
	l.Body = text(sentence(r))
	severe(l, severity(r))
	l.TraceId = a.id("grpcguard.trace_id", r.TraceID, 16)
	l.SpanId = a.id("grpcguard.span_id", r.SpanID, 8)

	if r.ID != (audit.ID{}) {
		a.text("grpcguard.record.id", r.ID.String())
		a.text("grpcguard.call.id", r.ID.CallID())
	}
	a.text("grpcguard.type", string(r.Type))
	a.text("grpcguard.event", string(r.Event))
	a.text("grpcguard.subject", r.Subject)
	a.text("grpcguard.side", string(r.Side))
	a.text("grpcguard.service", r.Service)
	a.method(r)
	a.text("grpcguard.kind", r.Kind)
	a.address(r)
	a.text("grpcguard.caller", r.Caller)
	a.text("grpcguard.caller_serial", r.CallerSerial)
	a.text("grpcguard.trust_domain", r.TrustDomain)
	a.text("enduser.id", r.EndUser)
	a.text("grpcguard.callee", r.Callee)
	a.text("grpcguard.decision", r.Decision)
	a.text("grpcguard.rule", r.Rule)
	a.text("grpcguard.reason", r.Reason)
	a.text("grpcguard.stage", r.Stage)
	a.text("grpcguard.policy_revision", r.PolicyRevision)
	a.text("grpcguard.policy_hash", r.PolicyHash)
	a.text("grpcguard.outcome", string(r.Outcome))
	a.text("grpcguard.detail", r.Detail)
	a.some("grpcguard.duration_ns", uint64(r.Duration))
	a.some("grpcguard.received", r.Received)
	a.some("grpcguard.sent", r.Sent)
	a.some("grpcguard.received_bytes", r.ReceivedBytes)
	a.some("grpcguard.sent_bytes", r.SentBytes)
	a.text("grpcguard.request_id", r.RequestID)
	a.transaction(&r.Transaction)
	a.some("grpcguard.messages", r.Messages)
	a.some("grpcguard.count", r.Count)
	if r.Cut {
		a.flag("grpcguard.cut", true)
	}
}

func severity(r *audit.Record) logs.SeverityNumber {
	switch r.Outcome {
	case audit.OutcomeDenied, audit.OutcomeUnread, audit.OutcomeDegraded:
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	case audit.OutcomeFailed, audit.OutcomePanicked:
		return logs.SeverityNumber_SEVERITY_NUMBER_ERROR
	case audit.OutcomeOK:
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO
	}
	if r.Type == audit.TypeDenials {
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	}
	switch r.Event {
	case audit.EventHandshakeRefused, audit.EventBreakerOpen, audit.EventStoreDown, audit.EventDropped:
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	case audit.EventJournalTrouble:
		return logs.SeverityNumber_SEVERITY_NUMBER_ERROR
	default: // A later version's events are at least seen.
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO
	}
}

func severe(l *logs.LogRecord, n logs.SeverityNumber) {
	l.SeverityNumber = n
	l.SeverityText = strings.TrimPrefix(n.String(), "SEVERITY_NUMBER_")
}

// sentence says in a line what a record is of. Everything is in the attributes too.
func sentence(r *audit.Record) string {
	words := make([]string, 0, 8)
	for _, w := range []string{string(r.Type), string(r.Event), string(r.Outcome)} {
		if w != "" {
			words = append(words, shown(w))
		}
	}
	if r.Count != 0 {
		words = append(words, strconv.FormatUint(r.Count, 10))
	}
	for _, w := range []string{r.Method, r.Subject} {
		if w != "" {
			words = append(words, shown(w))
		}
	}
	if r.Caller != "" {
		words = append(words, "by", shown(r.Caller))
	}
	line := strings.Join(words, " ")
	if line == "" {
		line = "record" // Some that are behind a collector refuse a log without a body.
	}
	if r.Reason != "" {
		line += ": " + shown(r.Reason)
	}
	return line
}

// shown quotes what could pass for more than one word: a caller can choose its method.
func shown(s string) string {
	for _, c := range s {
		if c == ' ' || c == '"' || !strconv.IsPrint(c) {
			return strconv.Quote(s)
		}
	}
	return s
}

// nanos is 0, which is OTLP's word for unknown, where a time has no such number.
func nanos(t time.Time) uint64 {
	if s := t.Unix(); s < 0 || s >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	return uint64(t.UnixNano())
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(s, "\uFFFD")}}
}

// attributes is a list that grows. Texts that are empty are left out, as they are of records.
type attributes struct{ list []*common.KeyValue }

func (a *attributes) add(key string, v *common.AnyValue) {
	a.list = append(a.list, &common.KeyValue{Key: key, Value: v})
}

func (a *attributes) text(key, s string) {
	if s != "" {
		a.add(key, text(s))
	}
}

// number adds a number. OTLP's are signed; what no counter comes to is cut there.
func (a *attributes) number(key string, n uint64) {
	a.add(key, &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(min(n, math.MaxInt64))}})
}

func (a *attributes) some(key string, n uint64) {
	if n != 0 {
		a.number(key, n)
	}
}

func (a *attributes) flag(key string, b bool) {
	a.add(key, &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: b}})
}

// id decodes the ID of a trace or a span. One that is none stays a text.
func (a *attributes) id(key, s string, size int) []byte {
	if b, err := hex.DecodeString(s); err == nil && len(b) == size {
		return b
	}
	a.text(key, s)
	return nil
}

// method adds what is called, and how it ended. The conventions want no method that a caller made up.
func (a *attributes) method(r *audit.Record) {
	if r.Method == "" {
		return
	}
	a.text("rpc.system.name", "grpc")
	if name := strings.TrimPrefix(r.Method, "/"); r.Reason == "no-rule" {
		a.text("rpc.method", "_OTHER")
		a.text("rpc.method_original", name)
	} else {
		a.text("rpc.method", name)
	}
	a.text("grpcguard.method", r.Method)
	if r.Outcome != "" {
		name, ok := code.Code_name[int32(r.Code)]
		if !ok {
			name = strconv.FormatUint(uint64(r.Code), 10)
		}
		a.text("rpc.response.status_code", name)
	}
}

func (a *attributes) address(r *audit.Record) {
	if r.Address == "" {
		return
	}
	host, port, err := net.SplitHostPort(r.Address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		host, n = r.Address, 0
	}
	a.text("network.peer.address", host)
	a.some("network.peer.port", n)
	if r.Side == audit.SideServer {
		a.text("client.address", host)
		a.some("client.port", n)
	}
}

func (a *attributes) transaction(t *audit.Transaction) {
	if *t == (audit.Transaction{}) {
		return
	}
	a.text("grpcguard.transaction.id", t.ID)
	a.text("grpcguard.transaction.amount", t.Amount)
	a.text("grpcguard.transaction.currency", t.Currency)
	a.flag("grpcguard.transaction.minor_units", t.MinorUnits)
	a.text("grpcguard.transaction.from_account", t.FromAccount)
	a.text("grpcguard.transaction.to_account", t.ToAccount)
}
