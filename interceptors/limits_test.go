package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
)

// Every kind of call is refused the same way, before a message of it is read.
func TestRateLimitsOfEveryKindOfCall(t *testing.T) {
	t.Parallel()
	for kind, call := range ordered {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			method := orderedMethods[kind]
			w, _ := limitedWorld(t, rules("rate_limits: [{requests: 2, per: 3600s}]", method))
			c := w.spender(friendID)
			must(t, call(t.Context(), c, nil))
			must(t, call(t.Context(), c, nil))
			err := call(t.Context(), c, &pb.Order{Token: make([]byte, 4<<20)})
			wantLimited(t, err, "caller", 29*time.Minute, 30*time.Minute)
			if text := prototext.Format(status.Convert(err).Proto()); strings.Contains(text, "LimitService") || strings.Contains(text, "friend") || strings.Contains(text, "policy") {
				t.Errorf("the inside is on the wire:\n%s", text)
			}
			must(t, call(t.Context(), w.spender(alice), nil))
			records := w.records.all(t, 4)
			for _, r := range records {
				if (r.Outcome == audit.OutcomeDenied) != (r.Stage == "limits") {
					t.Errorf("record %+v", r)
				}
				if r.Stage == "limits" && (r.Reason != "rate-limited" || r.Kind != "" || r.Received != 0 || r.Sent != 0 || r.Code != codes.ResourceExhausted || r.Caller != friendID ||
					r.Decision != "allowed" || r.Detail != fmt.Sprintf("policy.yaml:8: methods[%q].rate_limits[0]", method)) {
					t.Errorf("record %+v", r)
				}
			}
			if n := w.limited.handled.Load(); n != 3 {
				t.Errorf("%d calls came to the handler, want 3", n)
			}
		})
	}
}

// step is a call and whether it is let in.
type step struct {
	who, kind string
	order     *pb.Order
	ok        bool
}

// What calls are counted by: one permit for each key, and the calls that share it.
func TestRateLimitKeys(t *testing.T) {
	t.Parallel()
	one := func(more string) string {
		return rules("rate_limits: [{requests: 1, per: 3600s, "+more+"}]", spend, watch)
	}
	ofService := func(more string) string {
		return "services:\n  guardtest.v1.LimitService: {rate_limits: [{requests: 1, per: 3600s" + more + "}]}\n"
	}
	// values of one field: the first twice, then another, then none.
	values := func(a, b *pb.Order) []step {
		return []step{
			{friendID, "unary", a, true},
			{friendID, "unary", a, false},
			{alice, "unary", a, false},
			{friendID, "unary", b, true},
			{friendID, "unary", b, false},
		}
	}
	tests := []struct {
		name, yaml, subject string
		steps               []step
	}{
		{"caller", one("key: [KEY_CALLER]"), "caller", []step{
			{friendID, "unary", nil, true},
			{friendID, "unary", nil, false},
			{alice, "unary", nil, true},
			{bob, "unary", nil, true},
			{alice, "unary", nil, false},
			{friendID, "server_stream", nil, true},
		}},
		{"caller, all methods of a service together", ofService(""), "caller", []step{
			{friendID, "unary", nil, true},
			{friendID, "server_stream", nil, false},
			{friendID, "client_stream", nil, false},
			{friendID, "bidi_stream", nil, false},
			{alice, "bidi_stream", nil, true},
			{alice, "unary", nil, false},
		}},
		{"caller and method, on a service", ofService(", key: [KEY_CALLER, KEY_METHOD]"), "caller", []step{
			{friendID, "unary", nil, true},
			{friendID, "server_stream", nil, true},
			{friendID, "unary", nil, false},
			{alice, "unary", nil, true},
			{friendID, "server_stream", nil, false},
		}},
		{"method alone", ofService(", key: [KEY_METHOD]"), "method", []step{
			{friendID, "unary", nil, true},
			{alice, "unary", nil, false},
			{foreign, "unary", nil, false},
			{alice, "server_stream", nil, true},
		}},
		{"trust domain", one("key: [KEY_TRUST_DOMAIN]"), "trust domain", []step{
			{friendID, "unary", nil, true},
			{alice, "unary", nil, false},
			{foreign, "unary", nil, true},
			{foreign, "unary", nil, false},
		}},
		{"address, whatever the port", one("key: [KEY_ADDRESS]"), "caller", []step{
			{friendID, "unary", nil, true},
			{alice, "unary", nil, false},
			{foreign, "unary", nil, false},
		}},
		{"a text", one("key_fields: [order.from.account]"), "request", values(from("1"), from("2"))},
		{"a text, absent is empty", one("key_fields: [order.from.account]"), "request", []step{
			{friendID, "unary", nil, true},
			{friendID, "unary", from(""), false},
			{friendID, "unary", &pb.Order{}, false},
			{friendID, "server_stream", from("1"), true},
			{friendID, "server_stream", from("1"), false},
		}},
		{"an enum", one("key_fields: [order.channel]"), "request", values(&pb.Order{Channel: pb.Channel_CHANNEL_BRANCH}, &pb.Order{Channel: 99})},
		{"bytes", one("key_fields: [order.token]"), "request", values(&pb.Order{Token: []byte{0, 255}}, &pb.Order{Token: []byte{0}})},
		{"true and false", one("key_fields: [order.urgent]"), "request", values(&pb.Order{Urgent: true}, &pb.Order{})},
		{"int32", one("key_fields: [order.int32]"), "request", values(&pb.Order{Int32: math.MinInt32}, &pb.Order{Int32: math.MaxInt32})},
		{"uint32", one("key_fields: [order.uint32]"), "request", values(&pb.Order{Uint32: math.MaxUint32}, &pb.Order{Uint32: 1})},
		{"sint64", one("key_fields: [order.sint64]"), "request", values(&pb.Order{Sint64: -1}, &pb.Order{Sint64: 1})},
		{"fixed64", one("key_fields: [order.fixed64]"), "request", values(&pb.Order{Fixed64: math.MaxUint64}, &pb.Order{Fixed64: 1 << 63})},
		{"int64", one("key_fields: [order.amount]"), "request", values(&pb.Order{Amount: math.MinInt64}, &pb.Order{Amount: math.MaxInt64})},
		{"caller and field", one("key: [KEY_CALLER], key_fields: [order.from.account]"), "request", []step{
			{friendID, "unary", from("1"), true},
			{alice, "unary", from("1"), true},
			{friendID, "unary", from("2"), true},
			{friendID, "unary", from("1"), false},
			{alice, "unary", from("1"), false},
		}},
		{"fields that run into each other are not one key", one("key_fields: [order.from.account, order.currency]"), "request", []step{
			{friendID, "unary", &pb.Order{From: &pb.Account{Account: "ab"}, Currency: "c"}, true},
			{friendID, "unary", &pb.Order{From: &pb.Account{Account: "a"}, Currency: "bc"}, true},
			{friendID, "unary", &pb.Order{From: &pb.Account{Account: "abc"}}, true},
			{friendID, "unary", &pb.Order{Currency: "abc"}, true},
			{friendID, "unary", &pb.Order{From: &pb.Account{Account: "a\x01\x02bc"}}, true},
			{friendID, "unary", &pb.Order{From: &pb.Account{Account: "a"}, Currency: "bc"}, false},
		}},
		{"a key function", one("key_function: tenant"), "request", []step{
			{friendID, "unary", from("x-1"), true},
			{friendID, "unary", from("x-2"), false},
			{friendID, "unary", from("y-1"), true},
			{alice, "unary", from("y-3"), true},
			{alice, "unary", from("y-4"), false},
		}},
	}
	tenant := func(_ context.Context, caller *identity.Caller, method string, msg proto.Message) (string, error) {
		if method != spend {
			t.Errorf("the key function gets method %q", method)
		}
		account := msg.(*pb.SpendRequest).GetOrder().GetFrom().GetAccount()
		return caller.ID().String() + account[:1], nil
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, tt.yaml, interceptors.WithKeyFunction("tenant", tenant))
			clients := make(map[string]pb.LimitServiceClient)
			for i, s := range tt.steps {
				if clients[s.who] == nil {
					clients[s.who] = w.spender(s.who)
				}
				err := ordered[s.kind](t.Context(), clients[s.who], s.order)
				switch {
				case s.ok && err != nil:
					t.Errorf("step %d: %v", i, err)
				case !s.ok && err == nil:
					t.Errorf("step %d is let in", i)
				case !s.ok:
					wantLimited(t, err, tt.subject, 59*time.Minute, time.Hour)
				}
			}
		})
	}
}

func TestKeyFunctionsThatFail(t *testing.T) {
	t.Parallel()
	yaml := rules("rate_limits: [{requests: 5, per: 3600s, key_function: tenant}]", spend)
	t.Run("an error refuses the call", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, yaml, interceptors.WithKeyFunction("tenant", func(context.Context, *identity.Caller, string, proto.Message) (string, error) {
			return "", errors.New("no tenant in db 10.0.0.7")
		}))
		err := ordered["unary"](t.Context(), w.spender(friendID), nil)
		wantStatus(t, err, codes.PermissionDenied, "permission denied")
		if reasonOf(err) != "PERMISSION_DENIED" || len(status.Convert(err).Details()) != 1 {
			t.Errorf("details %v", status.Convert(err).Details())
		}
		if r := w.records.one(t); r.Outcome != audit.OutcomeDenied || r.Stage != "limits" || r.Reason != "key-function-failed" || r.Detail != "tenant: no tenant in db 10.0.0.7" {
			t.Errorf("record %+v", r)
		}
	})
	t.Run("a panic ends the call alone", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, yaml, interceptors.WithKeyFunction("tenant", func(context.Context, *identity.Caller, string, proto.Message) (string, error) {
			panic("tenant")
		}))
		c := w.spender(friendID)
		wantStatus(t, ordered["unary"](t.Context(), c, nil), codes.Internal, "internal error")
		must(t, ordered["bidi_stream"](t.Context(), c, nil))
		if r := w.records.all(t, 2)[0]; r.Outcome != audit.OutcomePanicked {
			t.Errorf("record %+v", r)
		}
		if n := w.limited.handled.Load(); n != 1 {
			t.Errorf("%d calls came to a handler", n)
		}
	})
}

func TestLimitsThatDoNotStart(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, *identity.Caller, string, proto.Message) (string, error) { return "", nil }
	limit := func(more string) string { return rules("rate_limits: [{requests: 5, per: 3600s"+more+"}]", spend) }
	tests := []struct {
		name, yaml string
		opts       []interceptors.ServerOption
		want       string
	}{
		{"a key function that nobody registered", limit(", key_function: tenant"), []interceptors.ServerOption{interceptors.WithKeyFunction("tenants", nothing)},
			`interceptors: policy.yaml:8: methods["` + spend + `"].rate_limits[0]: key_function "tenant" is not registered; see interceptors.WithKeyFunction`},
		{"a shared scope without a store", limit(", scope: SCOPE_SHARED"), nil,
			`interceptors: policy.yaml:8: methods["` + spend + `"].rate_limits[0]: scope: SCOPE_SHARED needs a store; see interceptors.WithRateLimitStore`},
		{"a limit that the store cannot keep", limit(""), []interceptors.ServerOption{interceptors.WithRateLimitStore(&store{check: errors.New("too fast for me")})},
			`interceptors: policy.yaml:8: methods["` + spend + `"].rate_limits[0]: too fast for me`},
		{"no store", "", []interceptors.ServerOption{interceptors.WithRateLimitStore(nil)}, "interceptors: WithRateLimitStore: the store is nil"},
		{"no function", "", []interceptors.ServerOption{interceptors.WithKeyFunction("tenant", nil)}, `interceptors: WithKeyFunction: "tenant" is nil`},
		{"two functions", "", []interceptors.ServerOption{interceptors.WithKeyFunction("tenant", nothing), interceptors.WithKeyFunction("tenant", nothing)},
			`interceptors: WithKeyFunction: "tenant" is registered twice`},
		{"a nil option", "", []interceptors.ServerOption{nil}, "interceptors: server option 2 is nil"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := tryLimitedWorld(t, tt.yaml, tt.opts...); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Several limits all hold, and a call that one refuses takes nothing from the others.
func TestARefusalGivesBackWhatOtherLimitsGave(t *testing.T) {
	t.Parallel()
	t.Run("before the message", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, rules("rate_limits: [{requests: 3, per: 3600s, key: [KEY_TRUST_DOMAIN]}, {requests: 1, per: 3600s}]", spend))
		for _, id := range []string{friendID, alice, bob} {
			c := w.spender(id)
			must(t, ordered["unary"](t.Context(), c, nil))
			for range 5 {
				err := ordered["unary"](t.Context(), c, nil)
				if id == bob { // The trust domain has used up its own by now.
					wantLimited(t, err, "trust domain", 19*time.Minute, 20*time.Minute)
				} else {
					wantLimited(t, err, "caller", 59*time.Minute, time.Hour)
				}
			}
		}
		wantLimited(t, ordered["unary"](t.Context(), w.spender(carol), nil), "trust domain", 19*time.Minute, 20*time.Minute)
	})
	t.Run("on the message", func(t *testing.T) {
		t.Parallel()
		w, _ := limitedWorld(t, rules("rate_limits: [{requests: 3, per: 3600s, key_fields: [order.from.account]}, {requests: 1, per: 86400s, key_fields: [order.text]}]", spend))
		c := w.spender(friendID)
		pay := func(text string) error {
			o := from("1")
			o.Text = text
			return ordered["unary"](t.Context(), c, o)
		}
		must(t, pay("a"))
		for range 5 {
			wantLimited(t, pay("a"), "request", 23*time.Hour, 24*time.Hour)
		}
		must(t, pay("b"))
		must(t, pay("c"))
		wantLimited(t, pay("d"), "request", 22*time.Minute, 23*time.Minute) // in sixteenths of the hour
	})
}

// The annotations of a service: its methods share a limit, but for the one that has its own.
func TestRateLimitsOfAnnotations(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, "")
	c := pb.NewQuotaServiceClient(w.dial(w.workload(friendID)))
	first := func() error { _, err := c.First(t.Context(), &pb.FirstRequest{}); return err }
	second := func() error { _, err := c.Second(t.Context(), &pb.SecondRequest{}); return err }
	third := func(o *pb.Order) error { _, err := c.Third(t.Context(), &pb.ThirdRequest{Order: o}); return err }
	must(t, first())
	must(t, second())
	must(t, first())
	wantLimited(t, second(), "caller", 19*time.Minute, 20*time.Minute)
	wantLimited(t, first(), "caller", 19*time.Minute, 20*time.Minute)
	must(t, third(&pb.Order{From: &pb.Account{Account: "1"}, Amount: 400, Currency: "EUR"}))
	wantLimited(t, third(&pb.Order{From: &pb.Account{Account: "1"}, Amount: 400, Currency: "EUR"}), "request", 59*time.Minute, time.Hour)
	wantStatus(t, third(&pb.Order{From: &pb.Account{Account: "2"}, Amount: 400, Currency: "USD"}), codes.InvalidArgument, "the message is invalid")
	deep := &pb.Tree{Branch: &pb.Tree{Branch: &pb.Tree{}}}
	wantStatus(t, third(&pb.Order{Tree: deep}), codes.InvalidArgument, "the message nests too deep")
	wantStatus(t, third(&pb.Order{Tree: &pb.Tree{Leaves: make([]int64, 6)}}), codes.InvalidArgument, "a field has too many elements")
	details := make([]string, 0, 7)
	for _, r := range w.records.all(t, 9) {
		if r.Stage != "" {
			details = append(details, r.Reason+" "+r.Detail)
		}
	}
	const at = "guardtest/v1/guardtest.proto: "
	slices.Sort(details)
	if got, want := strings.Join(details, "\n"), strings.Join([]string{
		"currency-not-limited order.amount: its currency is not accepted",
		"rate-limited " + at + "/guardtest.v1.QuotaService/Third: (grpcguard.v1.method).rate_limits[0]",
		"rate-limited " + at + "service guardtest.v1.QuotaService: (grpcguard.v1.service).rate_limits[0]",
		"rate-limited " + at + "service guardtest.v1.QuotaService: (grpcguard.v1.service).rate_limits[0]",
		"too-deep ", "too-many-items ",
	}, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A stream's opening counts, and each message where that is declared. The one that is too many ends the stream with its status.
func TestLimitedMessagesEndTheirStream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, limit, subject string
		passed               int
	}{
		{"the opening and each message", "requests: 4, per: 3600s, per_message: true", "caller", 3},
		{"each message by a field; the opening has none", "requests: 3, per: 3600s, per_message: true, key_fields: [order.from.account]", "request", 3},
		{"what messages cost", "requests: 30, per: 3600s, per_message: true, cost_field: order.weight", "request", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := limitedWorld(t, rules("rate_limits: [{"+tt.limit+"}]", deposit, trade))
			c := w.spender(friendID)
			o := from("1")
			o.Weight = 10

			stream, err := c.Trade(t.Context())
			must(t, err)
			for range tt.passed {
				must(t, stream.Send(&pb.TradeRequest{Order: o}))
				_, err := stream.Recv()
				must(t, err)
			}
			must(t, stream.Send(&pb.TradeRequest{Order: o}))
			_, err = stream.Recv()
			wantLimited(t, err, tt.subject, 0, time.Hour)

			upload, err := c.Deposit(t.Context())
			must(t, err)
			for range tt.passed + 1 {
				if err := upload.Send(&pb.DepositRequest{Order: o}); err != nil {
					break
				}
			}
			_, err = upload.CloseAndRecv()
			wantLimited(t, err, tt.subject, 0, time.Hour)
			for _, r := range w.records.all(t, 2) {
				if r.Outcome != audit.OutcomeDenied || r.Stage != "limits" || r.Reason != "rate-limited" || r.Received != uint64(tt.passed)+1 || r.Code != codes.ResourceExhausted {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

// A message that is refused for what it is takes nothing from the account it names.
func TestARefusedMessageTakesNothing(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("budget: {max_items: 2}, rate_limits: [{requests: 1, per: 3600s, key_fields: [order.from.account]}]", spend))
	victim, attacker := w.spender(alice), w.spender(friendID)
	invalid, large := from("1"), from("1")
	invalid.Text, large.Tree = strings.Repeat("x", 21), &pb.Tree{Leaves: make([]int64, 3)}
	for range 3 {
		wantStatus(t, ordered["unary"](t.Context(), attacker, invalid), codes.InvalidArgument, "the message is invalid")
		wantStatus(t, ordered["unary"](t.Context(), attacker, large), codes.InvalidArgument, "a field has too many elements")
	}
	wantStatus(t, ordered["unary"](t.Context(), w.spender("spiffe://example.org/stranger"), from("1")), codes.PermissionDenied, "permission denied")
	must(t, ordered["unary"](t.Context(), victim, from("1")))
}

// Many callers at once get what there is and not one more.
func TestRateLimitsUnderParallelCalls(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("rate_limits: [{requests: 50, per: 86400s, key_fields: [order.from.account]}, {requests: 100000, per: 1s}]", spend))
	clients := []pb.LimitServiceClient{w.spender(friendID), w.spender(alice), w.spender(bob)}
	var allowed [2]atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range 20 {
				switch err := ordered["unary"](t.Context(), clients[i%3], from(fmt.Sprint(i%2))); {
				case err == nil:
					allowed[i%2].Add(1)
				case status.Code(err) != codes.ResourceExhausted:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := allowed[0].Load(), allowed[1].Load(); a != 50 || b != 50 {
		t.Errorf("%d and %d calls were let in, want 50 each", a, b)
	}
}

// What is given back is given back to the key that it was taken of, whatever the key function says the second time.
func TestAKeyFunctionThatChangesItsMind(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	keys := []string{"k", "other", "k", "k"}
	w, _ := limitedWorld(t, rules("rate_limits: [{requests: 1, per: 3600s, key_function: f}, {requests: 1, per: 3600s, key_fields: [order.text]}]", spend),
		interceptors.WithKeyFunction("f", func(context.Context, *identity.Caller, string, proto.Message) (string, error) {
			return keys[n.Add(1)-1], nil
		}))
	c := w.spender(friendID)
	must(t, ordered["unary"](t.Context(), c, &pb.Order{Text: "x"}))
	for _, text := range []string{"x", "y"} {
		if code := status.Code(ordered["unary"](t.Context(), c, &pb.Order{Text: text})); code != codes.ResourceExhausted {
			t.Errorf("%s: %v", text, code)
		}
	}
}

func TestWhatIsWrongWithAServicesLimitIsSaidOnce(t *testing.T) {
	t.Parallel()
	_, _, err := tryLimitedWorld(t, "services:\n  guardtest.v1.EchoService: {rate_limits: [{requests: 1, per: 1s, scope: SCOPE_SHARED}]}\n")
	if err == nil || strings.Count(err.Error(), "SCOPE_SHARED needs a store") != 1 {
		t.Errorf("got %v", err)
	}
}

// A call counts when its message comes: calls that were opened early and send late are not let through all at once.
func TestCallsThatWereOpenedEarlyCountWhenTheySend(t *testing.T) {
	t.Parallel()
	w, _ := limitedWorld(t, rules("rate_limits: [{requests: 2, per: 3s, key_fields: [order.from.account]}]", spend))
	cc := w.dial(w.workload(friendID))
	var streams []grpc.ClientStream
	for opened := time.Now(); time.Since(opened) < 3*time.Second; {
		s, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, spend)
		must(t, err)
		streams = append(streams, s)
		select {
		case <-time.After(300 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	ok := 0
	for _, s := range streams {
		must(t, s.SendMsg(&pb.SpendRequest{Order: from("1")}))
		must(t, s.CloseSend())
		switch err := s.RecvMsg(&pb.SpendResponse{}); status.Code(err) {
		case codes.OK:
			ok++
		case codes.ResourceExhausted:
		default:
			t.Error(err)
		}
	}
	// Two at once, and one more for each second and a half that sending them takes on a busy machine.
	if ok > 4 {
		t.Errorf("%d of %d are let in", ok, len(streams))
	}
}
