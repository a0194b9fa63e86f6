package policy_test

import (
	"testing"
	"time"

	"github.com/grpcguard/grpcguard/policy"
)

const full = `max_depth: 1 max_items: 2 max_concurrent_calls_per_caller: 3 max_concurrent_calls: 4 max_stream_messages: 5 max_stream_bytes: 6
	max_stream_idle { seconds: 7 }`

// Budgets of the service, the file's service, the method and the file's method are laid over each other, field by field.
func TestBudgetsAreMergedFieldByField(t *testing.T) {
	t.Parallel()
	all := policy.Budget{
		MaxDepth: 1, MaxItems: 2, MaxConcurrentCallsByCaller: 3, MaxConcurrentCalls: 4, MaxStreamMessages: 5, MaxStreamBytes: 6, MaxStreamIdle: 7 * time.Second,
	}
	with := func(change func(*policy.Budget)) policy.Budget {
		b := all
		change(&b)
		return b
	}
	tests := []struct {
		name, service, method, yaml string
		want                        policy.Budget
	}{
		{"nothing", "", "", "", policy.Budget{}},
		{"the service's", full, "", "", all},
		{"the method's", "", full, "", all},
		{"the method's over the service's", full, "max_items: 20", "", with(func(b *policy.Budget) { b.MaxItems = 20 })},
		{"a duration is replaced and not merged", full, "max_stream_idle { nanos: 500000000 }", "", with(func(b *policy.Budget) { b.MaxStreamIdle = 500 * time.Millisecond })},
		{"the file's service over the service's", full, "", "services:\n  shop.v1.Shop: {budget: {max_depth: 10}}\n", with(func(b *policy.Budget) { b.MaxDepth = 10 })},
		{"the method's over the file's service", full, "max_depth: 11", "services:\n  shop.v1.Shop: {budget: {max_depth: 10, max_items: 12}}\n", with(func(b *policy.Budget) {
			b.MaxDepth, b.MaxItems = 11, 12
		})},
		{"the file's method over all", full, "max_depth: 11", "services:\n  shop.v1.Shop: {budget: {max_depth: 10}}\nmethods:\n  /shop.v1.Shop/Buy: {budget: {max_depth: 13, max_stream_idle: 1s}}\n", with(func(b *policy.Budget) {
			b.MaxDepth, b.MaxStreamIdle = 13, time.Second
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Compile(parse(t, tt.yaml), shop(t, "budget {"+tt.service+"}",
				call{name: "Buy", rule: "budget {" + tt.method + "}", client: true, server: true}, call{name: "Other"}))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Rule(buy).Budget(); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if other := p.Rule("/shop.v1.Shop/Other").Budget(); tt.method != "" && tt.service == full && other.MaxStreamIdle != 7*time.Second {
				t.Errorf("the method's budget reached another: %+v", other)
			}
		})
	}
}

func TestBudgetsThatDoNothing(t *testing.T) {
	t.Parallel()
	const nothing = ": does nothing: the method has no such stream"
	streams := []string{atBuy + ".budget.max_stream_bytes" + nothing, atBuy + ".budget.max_stream_idle" + nothing, atBuy + ".budget.max_stream_messages" + nothing}
	tests := []struct {
		name string
		call call
		rule string
		want []string
	}{
		{"a stream's budget on a unary method", call{}, "max_stream_messages: 1 max_stream_bytes: 1 max_stream_idle { seconds: 1 }", streams},
		{"what callers send on a stream, where only the server streams", call{server: true}, "max_stream_messages: 1 max_stream_bytes: 1 max_stream_idle { seconds: 1 }", []string{streams[0], streams[2]}},
		{"all of it where the caller streams", call{client: true}, "max_stream_messages: 1 max_stream_bytes: 1 max_stream_idle { seconds: 1 }", nil},
		{"no time at all", call{client: true}, "max_stream_idle {}", []string{atBuy + ".budget.max_stream_idle: must be greater than or equal to 0.001s"}},
		{"negative time", call{client: true}, "max_stream_idle { seconds: -1 }", []string{atBuy + ".budget.max_stream_idle: must be greater than or equal to 0.001s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.call.name, tt.call.rule = "Buy", "budget {"+tt.rule+"}"
			_, err := policy.Compile(nil, shop(t, "", tt.call))
			if tt.want == nil && err == nil {
				return
			}
			wantErrors(t, err, tt.want...)
		})
	}
	// A service says it for those of its methods that have streams; the file's method says it with its line.
	_, err := policy.Compile(parse(t, "methods:\n  /shop.v1.Shop/Buy:\n    budget:\n      max_depth: 3\n      max_stream_messages: 3\n"),
		shop(t, "budget {"+full+"}", call{name: "Buy"}, call{name: "Upload", client: true}))
	wantErrors(t, err, `policy.yaml:5:7: methods["/shop.v1.Shop/Buy"].budget.max_stream_messages: does nothing: the method has no such stream`)
	for _, text := range []string{"max_depth: -1", "max_depth: 4294967296", "max_stream_idle: 0s", "max_stream_messages: -1", "max_dept: 1"} {
		if _, err := policy.ParseFile("policy.yaml", []byte("methods:\n  /shop.v1.Shop/Buy:\n    budget: {"+text+"}\n")); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
