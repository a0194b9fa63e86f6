//go:build unix

package otlpexport

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/audit/journal"
)

// outcome is a record with most of what a record can have.
func outcome() audit.Record {
	return audit.Record{
		ID: audit.ID{Guard: 1, Call: 2, Number: 3}, Type: audit.TypeOutcome, Time: time.Unix(1_800_000_000, 5), Duration: 1500, Side: audit.SideServer,
		Service: "spiffe://bank.example/ledger", TraceID: "0102030405060708090a0b0c0d0e0f10", SpanID: "1112131415161718", RequestID: "r-1",
		Method: "/bank.v1.LedgerService/PostTransfer", Kind: "unary", Caller: "spiffe://bank.example/web", CallerSerial: "0a", TrustDomain: "bank.example",
		Address: "10.0.0.1:4711", Decision: "allowed", Rule: "ledger.proto:12", Reason: "caller-allowed", PolicyRevision: "7", PolicyHash: "abcd",
		Outcome: audit.OutcomeOK, Received: 1, Sent: 2, ReceivedBytes: 30, SentBytes: 40, Messages: 1,
		Transaction: audit.Transaction{ID: "t-1", Amount: "12.50", Currency: "EUR", FromAccount: "a", ToAccount: "b"},
	}
}

// flat lists attributes as texts.
func flat(list []*common.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[kv.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			m[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return m
}

func TestMapping(t *testing.T) {
	t.Parallel()
	base := outcome()
	for name, tt := range map[string]struct {
		change   func(r *audit.Record)
		event    string
		body     string
		severity string
		want     map[string]string
	}{
		"a transaction's outcome": {
			func(*audit.Record) {}, "grpcguard.outcome",
			"outcome ok /bank.v1.LedgerService/PostTransfer by spiffe://bank.example/web: caller-allowed", "INFO",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.record.id": "00000000000000010000000000000002.3",
				"grpcguard.call.id": "00000000000000010000000000000002", "grpcguard.type": "outcome", "grpcguard.side": "server",
				"grpcguard.service": "spiffe://bank.example/ledger", "rpc.system.name": "grpc", "rpc.method": "bank.v1.LedgerService/PostTransfer",
				"grpcguard.method": "/bank.v1.LedgerService/PostTransfer", "rpc.response.status_code": "OK", "grpcguard.kind": "unary",
				"network.peer.address": "10.0.0.1", "network.peer.port": "4711", "client.address": "10.0.0.1", "client.port": "4711",
				"grpcguard.caller": "spiffe://bank.example/web", "grpcguard.caller_serial": "0a", "grpcguard.trust_domain": "bank.example",
				"grpcguard.decision": "allowed", "grpcguard.rule": "ledger.proto:12", "grpcguard.reason": "caller-allowed",
				"grpcguard.policy_revision": "7", "grpcguard.policy_hash": "abcd", "grpcguard.outcome": "ok", "grpcguard.duration_ns": "1500",
				"grpcguard.received": "1", "grpcguard.sent": "2", "grpcguard.received_bytes": "30", "grpcguard.sent_bytes": "40",
				"grpcguard.request_id": "r-1", "grpcguard.messages": "1",
				"grpcguard.transaction.id": "t-1", "grpcguard.transaction.amount": "12.50", "grpcguard.transaction.currency": "EUR",
				"grpcguard.transaction.minor_units": "bool_value:false", "grpcguard.transaction.from_account": "a", "grpcguard.transaction.to_account": "b",
			},
		},
		"an intent": {
			func(r *audit.Record) {
				*r = audit.Record{Type: audit.TypeIntent, Method: "/a.B/C", Caller: "spiffe://a.test/b"}
			},
			"grpcguard.intent", "intent /a.B/C by spiffe://a.test/b", "INFO",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.type": "intent", "rpc.system.name": "grpc", "rpc.method": "a.B/C", "grpcguard.method": "/a.B/C",
				"grpcguard.caller": "spiffe://a.test/b",
			},
		},
		"a method that somebody made up": {
			func(r *audit.Record) {
				*r = audit.Record{Type: audit.TypeCall, Method: "a.B/C\n", Outcome: audit.OutcomeDenied, Code: codes.PermissionDenied, Reason: "no-rule"}
			},
			"grpcguard.call", `call denied "a.B/C\n": no-rule`, "WARN",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.type": "call", "rpc.system.name": "grpc", "rpc.method": "_OTHER", "rpc.method_original": "a.B/C\n",
				"grpcguard.method": "a.B/C\n", "grpcguard.outcome": "denied", "rpc.response.status_code": "PERMISSION_DENIED", "grpcguard.reason": "no-rule",
			},
		},
		"a client's call that failed": {
			func(r *audit.Record) {
				*r = audit.Record{
					Type: audit.TypeCall, Side: audit.SideClient, Method: "/a.B/C", Outcome: audit.OutcomeFailed, Code: 99, Callee: "spiffe://a.test/c",
					Address: "@socket", EndUser: "u",
				}
			},
			"grpcguard.call", "call failed /a.B/C", "ERROR",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.type": "call", "grpcguard.side": "client", "rpc.system.name": "grpc", "rpc.method": "a.B/C",
				"grpcguard.method": "/a.B/C", "grpcguard.outcome": "failed", "rpc.response.status_code": "99", "grpcguard.callee": "spiffe://a.test/c",
				"network.peer.address": "@socket", "enduser.id": "u",
			},
		},
		"denials": {
			func(r *audit.Record) {
				*r = audit.Record{Type: audit.TypeDenials, Count: 12, Caller: "spiffe://a.test/b", Reason: "rate"}
			},
			"grpcguard.denials", "denials 12 by spiffe://a.test/b: rate", "WARN",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.type": "denials", "grpcguard.count": "12", "grpcguard.caller": "spiffe://a.test/b", "grpcguard.reason": "rate",
			},
		},
		"an event": {
			func(r *audit.Record) {
				*r = audit.Record{Type: audit.TypeEvent, Event: audit.EventPolicyChanged, Subject: "abcd", Detail: "was 1234", Cut: true}
			},
			"grpcguard.policy-changed", "event policy-changed abcd", "INFO",
			map[string]string{
				"grpcguard.record.index": "9", "grpcguard.type": "event", "grpcguard.event": "policy-changed", "grpcguard.subject": "abcd",
				"grpcguard.detail": "was 1234", "grpcguard.cut": "bool_value:true",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := base
			tt.change(&r)
			l := logOf(journal.Record{Index: 9, Data: audit.AppendRecord(nil, &r)}, time.Unix(1_900_000_000, 0))
			got := flat(l.GetAttributes())
			for key := range maps.Keys(tt.want) {
				if got[key] != tt.want[key] {
					t.Errorf("%s = %q, want %q", key, got[key], tt.want[key])
				}
				delete(got, key)
			}
			if len(got) > 0 {
				t.Errorf("not wanted: %v", got)
			}
			if l.GetEventName() != tt.event || l.GetBody().GetStringValue() != tt.body || l.GetSeverityText() != tt.severity {
				t.Errorf("got %q %q %q", l.GetEventName(), l.GetBody().GetStringValue(), l.GetSeverityText())
			}
			if l.GetObservedTimeUnixNano() != 1_900_000_000_000_000_000 {
				t.Errorf("observed at %d", l.GetObservedTimeUnixNano())
			}
		})
	}
}

// What has a field of its own in OTLP is there and not among the attributes.
func TestTimeAndTrace(t *testing.T) {
	t.Parallel()
	r := outcome()
	l := logOf(journal.Record{Data: audit.AppendRecord(nil, &r)}, time.Now())
	if l.GetTimeUnixNano() != 1_800_000_000_000_000_005 || string(l.GetTraceId()) != "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10" ||
		string(l.GetSpanId()) != "\x11\x12\x13\x14\x15\x16\x17\x18" {
		t.Errorf("%d %x %x", l.GetTimeUnixNano(), l.GetTraceId(), l.GetSpanId())
	}
	r = audit.Record{TraceID: "no trace", SpanID: "0102", Time: time.Unix(1<<50, 0)}
	l = logOf(journal.Record{Data: audit.AppendRecord(nil, &r)}, time.Now())
	got := flat(l.GetAttributes())
	if l.GetTraceId() != nil || l.GetSpanId() != nil || l.GetTimeUnixNano() != 0 || got["grpcguard.trace_id"] != "no trace" || got["grpcguard.span_id"] != "0102" {
		t.Errorf("%v %v", l, got)
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	for want, all := range map[logs.SeverityNumber][]audit.Record{
		logs.SeverityNumber_SEVERITY_NUMBER_INFO: {
			{}, {Outcome: audit.OutcomeOK}, {Type: audit.TypeIntent}, {Type: audit.TypeAnswered}, {Event: audit.EventStarted}, {Event: audit.EventStopped},
			{Event: audit.EventPolicyChanged}, {Event: audit.EventBreakerClosed}, {Event: audit.EventBreakerHalfOpen}, {Event: audit.EventStoreUp},
			{Event: "of a later version"},
		},
		logs.SeverityNumber_SEVERITY_NUMBER_WARN: {
			{Outcome: audit.OutcomeDenied}, {Outcome: audit.OutcomeUnread}, {Outcome: audit.OutcomeDegraded}, {Type: audit.TypeDenials},
			{Event: audit.EventHandshakeRefused, Outcome: audit.OutcomeDenied}, {Event: audit.EventHandshakeRefused}, {Event: audit.EventBreakerOpen},
			{Event: audit.EventStoreDown}, {Event: audit.EventDropped},
		},
		logs.SeverityNumber_SEVERITY_NUMBER_ERROR: {{Outcome: audit.OutcomeFailed}, {Outcome: audit.OutcomePanicked}, {Event: audit.EventJournalTrouble}},
	} {
		for _, r := range all {
			if got := severity(&r); got != want {
				t.Errorf("%v%v%v is %v, want %v", r.Type, r.Event, r.Outcome, got, want)
			}
		}
	}
}

// Whatever field a record has, a log record shows it. A new field that nobody mapped fails here.
func TestEveryFieldShows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	of := func(r audit.Record) *logs.LogRecord {
		r.Method, r.Outcome = "/a.B/C", audit.OutcomeFailed // Code is part of a record that has an outcome.
		return logOf(journal.Record{Data: audit.AppendRecord(nil, &r)}, now)
	}
	var check func(path string, fields func(r *audit.Record) reflect.Value)
	check = func(path string, fields func(r *audit.Record) reflect.Value) {
		kind := fields(&audit.Record{}).Type()
		for i := range kind.NumField() {
			name := path + kind.Field(i).Name
			if slices.Contains([]string{"Class", "Method", "Outcome"}, name) {
				continue
			}
			if name == "Transaction" || name == "ID" {
				check(name+".", func(r *audit.Record) reflect.Value { return fields(r).Field(i) })
				continue
			}
			var r audit.Record
			switch f := fields(&r).Field(i); f.Kind() {
			case reflect.String:
				f.SetString("a value")
			case reflect.Uint64, reflect.Uint32:
				f.SetUint(3)
			case reflect.Int64:
				f.SetInt(3)
			case reflect.Bool:
				f.SetBool(true)
			default:
				f.Set(reflect.ValueOf(time.Unix(5, 5)))
			}
			if proto.Equal(of(r), of(audit.Record{})) {
				t.Errorf("%s is not exported", name)
			}
		}
	}
	check("", func(r *audit.Record) reflect.Value { return reflect.ValueOf(r).Elem() })
}

// A journal can hold what is no record of this version. It is exported all the same.
func TestWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	l := logOf(journal.Record{Index: 4, Data: []byte("\xffjunk")}, time.Now())
	got := flat(l.GetAttributes())
	if string(l.GetBody().GetBytesValue()) != "\xffjunk" || l.GetSeverityText() != "WARN" || l.GetEventName() != "grpcguard.unreadable" ||
		got["grpcguard.record.index"] != "4" || !strings.Contains(got["grpcguard.detail"], audit.ErrNoRecord.Error()) {
		t.Errorf("%v", l)
	}
	data := []byte("grpcguard journal: pruned\n" + `{"before":7,"root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","newest":"2026-01-02T03:04:05Z",` +
		`"retention_seconds":60,"at":"2027-01-15T08:00:00Z"}`)
	l = logOf(journal.Record{Index: 9, Data: data}, time.Now())
	want := map[string]string{
		"grpcguard.record.index": "9", "grpcguard.type": "event", "grpcguard.event": "journal-pruned", "grpcguard.pruned.before": "7",
		"grpcguard.pruned.root": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "grpcguard.pruned.newest": "2026-01-02T03:04:05Z",
		"grpcguard.pruned.retention_seconds": "60",
	}
	if got := flat(l.GetAttributes()); !maps.Equal(got, want) || l.GetEventName() != "grpcguard.journal-pruned" || l.GetTimeUnixNano() != 1_800_000_000_000_000_000 ||
		l.GetBody().GetStringValue() != "event journal-pruned, records before 7" {
		t.Errorf("%v %v", got, l)
	}
}

// Nothing that a journal can hold makes a log record that gRPC cannot encode, or that is far larger than what it is of.
func FuzzLogOf(f *testing.F) {
	r := outcome()
	f.Add(uint64(0), audit.AppendRecord(nil, &r))
	f.Add(uint64(1<<63), []byte("\xff"))
	f.Add(uint64(1), []byte("grpcguard journal: pruned\n{}"))
	f.Fuzz(func(t *testing.T, index uint64, data []byte) {
		l := logOf(journal.Record{Index: index, Data: data}, time.Now())
		b, err := proto.Marshal(l)
		if err != nil || len(b) > 4*len(data)+8<<10 {
			t.Errorf("%d bytes of %d: %v", len(b), len(data), err)
		}
	})
}
