package interceptors_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

// money is an amount in minor units.
func amount(account string, n int64, currency string) *pb.Order {
	return &pb.Order{From: &pb.Account{Account: account}, Amount: n, Currency: currency}
}

// A velocity limit is a cost that is the amount itself.
func TestVelocityLimits(t *testing.T) {
	t.Parallel()
	const perAccount = "per: 86400s, key_fields: [order.from.account], cost_field: order.amount, currency_field: order.currency"
	yaml := rules("rate_limits: [{requests: 1000, currency: EUR, "+perAccount+"}, {requests: 500, currency: CHF, "+perAccount+"}]", spend)
	const limited, over, invalid = "rate-limited", "over-limit", "invalid"
	tests := []struct {
		name  string
		order *pb.Order
		want  string // "" is let in
	}{
		{"within", amount("1", 600, "EUR"), ""},
		{"the sum is too much", amount("1", 401, "EUR"), limited},
		{"a refusal took nothing", amount("1", 400, "EUR"), ""},
		{"nothing is left", amount("1", 1, "EUR"), limited},
		{"nothing moves nothing", amount("1", 0, "EUR"), ""},
		{"another currency has its own", amount("1", 500, "CHF"), ""},
		{"and that is used up", amount("1", 1, "CHF"), limited},
		{"another account has its own", amount("2", 1000, "EUR"), ""},
		{"more than there ever is", amount("3", 1001, "EUR"), over},
		{"as much as a number holds", amount("3", math.MaxInt64, "EUR"), over},
		{"a currency without a limit", amount("3", 1, "USD"), invalid},
		{"a currency in small letters", amount("3", 1, "eur"), invalid},
		{"no currency", amount("3", 1, ""), invalid},
		{"no amount in no currency", from("3"), invalid},
		{"no order", nil, invalid},
		{"a negative amount", amount("3", -1, "EUR"), invalid},
		{"the most negative amount", amount("3", math.MinInt64, "EUR"), invalid},
		{"none of it took anything", amount("3", 1000, "EUR"), ""},
	}
	w, _ := limitedWorld(t, yaml)
	c := w.spender(friendID)
	for _, tt := range tests {
		err := ordered["unary"](t.Context(), c, tt.order)
		switch tt.want {
		case "":
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		case limited:
			wantLimited(t, err, "request", time.Millisecond, 24*time.Hour)
		case over: // No waiting helps, so none is advised.
			wantLimited(t, err, "request", 0, 0)
		case invalid:
			wantStatus(t, err, codes.InvalidArgument, "the message is invalid")
			bad, ok := status.Convert(err).Details()[1].(*errdetails.BadRequest)
			if !ok || reasonOf(err) != "MESSAGE_INVALID" || len(bad.GetFieldViolations()) != 1 || bad.GetFieldViolations()[0].GetField() != "order.amount" {
				t.Errorf("%s: details %v", tt.name, status.Convert(err).Details())
			}
		}
	}
	reasons := make(map[string]int)
	for _, r := range w.records.all(t, len(tests)) {
		reasons[r.Reason]++
	}
	if want := map[string]int{"caller-allowed": 6, "rate-limited": 3, "over-limit": 2, "currency-not-limited": 5, "negative-cost": 2}; fmt.Sprint(reasons) != fmt.Sprint(want) {
		t.Errorf("reasons %v, want %v", reasons, want)
	}
}

// moneyService is a service of package money.v1 whose one method takes a google.type.Money.
func moneyService(t *testing.T) (file protoreflect.FileDescriptor, pay grpc.ServiceDesc) {
	t.Helper()
	files := &protoregistry.Files{}
	for _, text := range []string{`name: "google/type/money.proto" package: "google.type" syntax: "proto3"
		message_type {
			name: "Money"
			field { name: "currency_code" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
			field { name: "units" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 }
			field { name: "nanos" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 }
		}`, `name: "money/v1/money.proto" package: "money.v1" syntax: "proto3" dependency: "google/type/money.proto"
		message_type {
			name: "PayRequest"
			field { name: "account" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
			field { name: "sum" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.type.Money" }
		}
		service { name: "Bank" method { name: "Pay" input_type: ".money.v1.PayRequest" output_type: ".money.v1.PayRequest" } }`} {
		parsed := &descriptorpb.FileDescriptorProto{}
		must(t, prototext.Unmarshal([]byte(text), parsed))
		var err error
		file, err = protodesc.NewFile(parsed, files)
		must(t, err)
		must(t, files.RegisterFile(file))
	}
	request := file.Messages().ByName("PayRequest")
	handler := func(_ any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := dynamicpb.NewMessage(request)
		if err := dec(in); err != nil {
			return nil, err
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/money.v1.Bank/Pay"}, func(_ context.Context, req any) (any, error) { return req, nil })
	}
	return file, grpc.ServiceDesc{ServiceName: "money.v1.Bank", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Pay", Handler: handler}}}
}

// Sums of google.type.Money are exact, whatever is in the message.
func TestVelocityLimitsOfMoney(t *testing.T) {
	t.Parallel()
	file, desc := moneyService(t)
	tests := []struct {
		name, sum string // prototext of the Money
		account   string
		want      codes.Code
		reason    string
	}{
		{"a good part", `currency_code: "EUR" units: 999 nanos: 990000000`, "1", codes.OK, ""},
		{"two cents more than there is", `currency_code: "EUR" nanos: 20000000`, "1", codes.ResourceExhausted, "RATE_LIMITED"},
		{"the last cent", `currency_code: "EUR" nanos: 10000000`, "1", codes.OK, ""},
		{"nothing moves nothing", `currency_code: "EUR"`, "1", codes.OK, ""},
		{"all of it at once", `currency_code: "EUR" units: 1000`, "2", codes.OK, ""},
		{"more than all, by the least there is", `currency_code: "EUR" units: 1000 nanos: 1`, "3", codes.ResourceExhausted, "RATE_LIMITED"},
		{"as much as there is", `currency_code: "EUR" units: 9223372036854775807 nanos: 999999999`, "3", codes.ResourceExhausted, "RATE_LIMITED"},
		{"what comes to little when it overflows", `currency_code: "EUR" units: 18446744074`, "3", codes.ResourceExhausted, "RATE_LIMITED"},
		{"negative units", `currency_code: "EUR" units: -1`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"the most negative units", `currency_code: "EUR" units: -9223372036854775808`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"negative nanos", `currency_code: "EUR" nanos: -1`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"signs that differ", `currency_code: "EUR" units: 5 nanos: -1`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"nanos that are a unit", `currency_code: "EUR" nanos: 1000000000`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"another currency", `currency_code: "USD" units: 1`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"no currency", `units: 1`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"an empty sum", ``, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"no sum", `-`, "3", codes.InvalidArgument, "MESSAGE_INVALID"},
		{"all of it is still there", `currency_code: "EUR" units: 1000`, "3", codes.OK, ""},
	}
	w := newWorld(t)
	parsed, err := policy.ParseFile("policy.yaml", []byte(policyID+`methods:
  /money.v1.Bank/Pay:
    callers: [friend]
    rate_limits: [{requests: 1000, per: 31622400s, key_fields: [account], cost_field: sum, currency: EUR}]
`))
	must(t, err)
	w.policy, err = policy.Compile(parsed, file)
	must(t, err)
	srv := grpc.NewServer(guardOptions(t, w, newRecorder())...)
	srv.RegisterService(&desc, nil)
	cc := w.dial(w.workload(friendID), grpc.WithContextDialer(listen(t, srv)))
	for _, tt := range tests {
		text := fmt.Sprintf("account: %q sum { %s }", tt.account, tt.sum)
		if tt.sum == "-" {
			text = "account: \"3\""
		}
		req := dynamicpb.NewMessage(file.Messages().ByName("PayRequest"))
		must(t, prototext.Unmarshal([]byte(text), req))
		err := cc.Invoke(t.Context(), "/money.v1.Bank/Pay", req, dynamicpb.NewMessage(req.Descriptor()))
		if status.Code(err) != tt.want || reasonOf(err) != tt.reason {
			t.Errorf("%s: %v, want %v %s", tt.name, err, tt.want, tt.reason)
		}
	}
}
