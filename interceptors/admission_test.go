package interceptors_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// Who may call what, the same for every kind of call.
func TestCallersAreAllowedAndDeniedOnEveryKindOfCall(t *testing.T) {
	t.Parallel()
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := call(t.Context(), w.as(friendID)); err != nil {
				t.Fatalf("the friend: %v", err)
			}
			wantStatus(t, call(t.Context(), w.as("spiffe://example.org/stranger")), codes.PermissionDenied, "permission denied")

			records := w.records.all(t, 2)
			allowed, denied := records[0], records[1]
			for _, r := range records {
				if r.Method != "/guardtest.v1.EchoService/"+methods[kind] || r.Side != audit.SideServer || r.Service != serverID {
					t.Errorf("record %+v", r)
				}
			}
			if allowed.Outcome != audit.OutcomeOK || allowed.Code != codes.OK || allowed.Decision != "allowed" || allowed.Reason != "caller-allowed" ||
				allowed.Caller != friendID || allowed.Kind != kind || allowed.CallerSerial == "" || allowed.Address == "" || allowed.Duration <= 0 {
				t.Errorf("the friend's record: %+v", allowed)
			}
			contains(t, allowed.Rule, `guardtest/v1/guardtest.proto: service guardtest.v1.EchoService: (grpcguard.v1.service).callers[0] "friend" = spiffe://example.org/friend (policy.yaml:3)`)
			if denied.Outcome != audit.OutcomeDenied || denied.Code != codes.PermissionDenied || denied.Decision != "denied" ||
				denied.Reason != "caller-not-listed" || denied.Stage != "callers" || denied.Received != 0 {
				t.Errorf("the stranger's record: %+v", denied)
			}
			if n := map[string]uint64{"unary": 1, "client_stream": 3, "server_stream": 1, "bidi_stream": 3}[kind]; allowed.Received != n {
				t.Errorf("received %d, want %d", allowed.Received, n)
			}
			if n := map[string]uint64{"unary": 1, "client_stream": 1, "server_stream": 3, "bidi_stream": 3}[kind]; allowed.Sent != n {
				t.Errorf("sent %d, want %d", allowed.Sent, n)
			}
		})
	}
}

func TestRefusedMethods(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, caller, method, reason, stage string
	}{
		{"a method that is closed", friendID, "/guardtest.v1.EchoService/Closed", "method-closed", "callers"},
		{"a registered method without a rule", friendID, "/guardtest.v1.BareService/Bare", "no-rule", "rule"},
		{"an unknown method", friendID, "/guardtest.v1.EchoService/Nothing", "no-rule", "rule"},
		{"an unknown service", friendID, "/guardtest.v1.Nothing/Nothing", "no-rule", "rule"},
		{"another case", friendID, "/guardtest.v1.EchoService/unary", "no-rule", "rule"},
		{"a second slash in front", friendID, "//guardtest.v1.EchoService/Unary", "no-rule", "rule"},
		{"a slash at the end", friendID, "/guardtest.v1.EchoService/Unary/", "no-rule", "rule"},
		{"a query", friendID, "/guardtest.v1.EchoService/Unary?x=1", "no-rule", "rule"},
		{"a percent escape", friendID, "/guardtest.v1.EchoService/%55nary", "no-rule", "rule"},
		{"a parent folder", friendID, "/guardtest.v1.EchoService/Closed/../Unary", "no-rule", "rule"},
		{"reflection", friendID, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "no-rule", "rule"},
		{"health", friendID, "/grpc.health.v1.Health/Check", "no-rule", "rule"},
		{"a caller for other methods", friendID, "/guardtest.v1.EchoService/Audited", "caller-not-listed", "callers"},
		{"a caller that is denied", "spiffe://example.org/audit/intern", "/guardtest.v1.EchoService/Audited", "caller-denied", "callers"},
		{"a caller on the deny list", "spiffe://example.org/audit/fired", "/guardtest.v1.EchoService/Audited", "deny-list", "callers"},
		{"the folder of a pattern is not in it", "spiffe://example.org/audit", "/guardtest.v1.EchoService/Audited", "caller-not-listed", "callers"},
		{"the server itself", serverID, "/guardtest.v1.EchoService/Unary", "caller-not-listed", "callers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			err := w.dial(w.workload(tt.caller)).Invoke(t.Context(), tt.method, &pb.UnaryRequest{}, &pb.UnaryResponse{})
			wantStatus(t, err, codes.PermissionDenied, "permission denied")
			info, ok := status.Convert(err).Details()[0].(*errdetails.ErrorInfo)
			if !ok || info.GetReason() != "PERMISSION_DENIED" || len(info.GetMetadata()) != 0 || len(status.Convert(err).Details()) != 1 {
				t.Errorf("details %v", status.Convert(err).Details())
			}
			r := w.records.one(t)
			if r.Reason != tt.reason || r.Stage != tt.stage || r.Method != tt.method || r.Outcome != audit.OutcomeDenied || r.Caller != tt.caller {
				t.Errorf("record %+v", r)
			}
		})
	}
	t.Run("the auditor may", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, err := w.as("spiffe://example.org/audit/team/anna").Audited(t.Context(), &pb.AuditedRequest{})
		must(t, err)
	})
}

// What a caller says of itself in metadata is not who it is.
func TestSpoofedMetadataIsNoIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(),
		"x-forwarded-client-cert", "URI="+friendID, "x-spiffe-id", friendID, "x-forwarded-for", "127.0.0.1", "authorization", "Bearer "+friendID)
	_, err := w.as("spiffe://example.org/stranger").Unary(ctx, &pb.UnaryRequest{})
	wantStatus(t, err, codes.PermissionDenied, "permission denied")
	if r := w.records.one(t); r.Caller != "spiffe://example.org/stranger" {
		t.Errorf("record %+v", r)
	}
}

// A caller whose connection did not come through the guard's credentials has no identity, and is refused by every kind of call.
func TestNoIdentityIsNeverAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// The last credentials given to grpc.NewServer win: a program that replaces the guard's is left with a server that denies.
	addr := w.serve(append(w.guard.ServerOptions(), grpc.Creds(plaintext))...)
	for kind, call := range calls {
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(plaintext))
		must(t, err)
		err = call(t.Context(), pb.NewEchoServiceClient(cc))
		must(t, cc.Close())
		if s := status.Convert(err); s.Code() != codes.Unauthenticated || s.Message() != "a verified identity is required" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, r := range w.records.all(t, len(calls)) {
		if r.Stage != "identity" || r.Reason != "no-identity" || r.Caller != "" || r.Decision != "denied" {
			t.Errorf("record %+v", r)
		}
	}
}

// A refused caller cannot make the server read its message, however far away its deadline is.
func TestRefusalsComeBeforeTheMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.as("spiffe://example.org/stranger")
	huge := &pb.UnaryRequest{Text: strings.Repeat("x", 4<<20)}
	_, err := c.Unary(t.Context(), huge)
	wantStatus(t, err, codes.PermissionDenied, "permission denied")
	ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
	defer cancel()
	_, err = c.Unary(ctx, huge)
	wantStatus(t, err, codes.PermissionDenied, "permission denied")
	for _, r := range w.records.all(t, 2) {
		if r.Kind != "" || r.Received != 0 || r.Reason != "caller-not-listed" {
			t.Errorf("record %+v: it should have been refused in the tap", r)
		}
	}
}

// A flood of refused calls neither blocks the connection nor loses a record while the sink stands still.
func TestRefusedCallsWaitForASlowSink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const flood = 3000 // more than the tap's queue holds
	w.records.blocked = make(chan struct{})
	stranger, friend := w.as("spiffe://example.org/stranger"), w.as(friendID)
	done := make(chan error, flood)
	for range flood {
		go func() {
			_, err := stranger.Unary(t.Context(), &pb.UnaryRequest{})
			done <- err
		}()
	}
	// A thousand answers come although no record can be written: those are in the queue.
	for range 1000 {
		wantStatus(t, <-done, codes.PermissionDenied, "permission denied")
	}
	close(w.records.blocked)
	for range flood - 1000 {
		wantStatus(t, <-done, codes.PermissionDenied, "permission denied")
	}
	_, err := friend.Unary(t.Context(), &pb.UnaryRequest{})
	must(t, err)
	must(t, w.guard.Close(context.Background()))
	if got := len(w.records.all(t, flood+1)); got != flood+1 {
		t.Errorf("%d records, want %d", got, flood+1)
	}
}

// Headers cost their sender a few bytes and the server as much as it lets them.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.as(friendID)
	must(t, calls["unary"](metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", 32<<10)), c))
	if err := calls["unary"](metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", 80<<10)), c); err == nil {
		t.Error("80 KiB of headers are taken")
	}
	must(t, calls["unary"](t.Context(), c))
}
