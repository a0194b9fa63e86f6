package policy_test

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// The more specific rule wins: service < service in the file < method < method in the file.
func TestTheMoreSpecificRuleWins(t *testing.T) {
	t.Parallel()
	const (
		service   = "shop/v1/shop.proto: service shop.v1.Shop: (grpcguard.v1.service)"
		onService = "services:\n  shop.v1.Shop: {callers: [\"spiffe://a.test/file\"], max_deadline: 2s, max_request_bytes: 2, max_response_bytes: 2}\n"
		onMethod  = "methods:\n  /shop.v1.Shop/Buy: {callers: [\"spiffe://a.test/top\"], max_deadline: 4s, max_request_bytes: 4, max_response_bytes: 4}\n"
	)
	rule := func(id string, n uint64) *grpcguardv1.Rule {
		return &grpcguardv1.Rule{
			Callers: []string{"spiffe://a.test/" + id}, MaxDeadline: durationpb.New(time.Duration(n) * time.Second),
			MaxRequestBytes: new(n), MaxResponseBytes: new(n),
		}
	}
	tests := []struct {
		name            string
		service, method *grpcguardv1.Rule
		yaml            string
		allowed         string // the one caller of four who is
		rule            string // why others are not
		n               int    // the limits
	}{
		{"the service alone", rule("service", 1), nil, "", "service", service + ".callers", 1},
		{"the file's service over the service", rule("service", 1), nil, onService, "file", `policy.yaml:2: services["shop.v1.Shop"].callers`, 2},
		{"the method over the service", rule("service", 1), rule("method", 3), "", "method", atBuy + ".callers", 3},
		{"the method over the file's service", rule("service", 1), rule("method", 3), onService, "method", atBuy + ".callers", 3},
		{"the file's method over all", rule("service", 1), rule("method", 3), onService + onMethod, "top", `policy.yaml:4: methods["/shop.v1.Shop/Buy"].callers`, 4},
		{"the file's method over the file's service", nil, nil, onService + onMethod, "top", `policy.yaml:4: methods["/shop.v1.Shop/Buy"].callers`, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := compile(t, tt.yaml, protoFile{service: tt.service, methods: []method{{"Buy", tt.method}}}).Rule(buy)
			for _, id := range []string{"service", "file", "method", "top"} {
				d := *r.Decide(subject("spiffe://a.test/" + id))
				if id == tt.allowed {
					if !d.Allowed {
						t.Errorf("%s: %+v", id, d)
					}
				} else if want := (policy.Decision{Reason: policy.ReasonCallerNotListed, Rule: tt.rule}); d != want {
					t.Errorf("%s: got %+v, want %+v", id, d, want)
				}
			}
			if r.MaxDeadline() != time.Duration(tt.n)*time.Second || r.MaxRequestBytes() != tt.n || r.MaxResponseBytes() != tt.n {
				t.Errorf("%v %d %d, want %d", r.MaxDeadline(), r.MaxRequestBytes(), r.MaxResponseBytes(), tt.n)
			}
		})
	}
}

// What the API closed stays closed whoever the file lets call the service; only the file's word on the method itself opens it.
func TestAServiceInTheFileDoesNotOpenWhatTheAPIClosed(t *testing.T) {
	t.Parallel()
	const (
		friend  = "spiffe://a.test/friend"
		onAll   = "services:\n  shop.v1.Shop: {callers: [\"" + friend + "\"]}\n"
		onBuy   = "methods:\n  /shop.v1.Shop/Buy: {callers: [\"" + friend + "\"]}\n"
		closing = "services:\n  shop.v1.Shop: {nobody: true}\n"
	)
	closed := &grpcguardv1.Rule{Nobody: true}
	tests := []struct {
		name            string
		service, method *grpcguardv1.Rule
		yaml            string
		want            policy.Decision
	}{
		{"closed by the method", nil, closed, onAll, policy.Decision{Reason: policy.ReasonMethodClosed, Rule: atBuy + ".nobody"}},
		{"for others by the method", nil, callers("spiffe://a.test/other"), onAll, policy.Decision{Reason: policy.ReasonCallerNotListed, Rule: atBuy + ".callers"}},
		{"denied by the method", nil, &grpcguardv1.Rule{DeniedCallers: []string{"spiffe://a.test/friend"}, Callers: []string{"spiffe://a.test/**"}}, onAll,
			policy.Decision{Reason: policy.ReasonCallerDenied, Rule: atBuy + `.denied_callers[0] "spiffe://a.test/friend"`}},
		{"closed by the method, opened by the file's word on it", nil, closed, onAll + onBuy,
			policy.Decision{Allowed: true, Reason: policy.ReasonCallerAllowed, Rule: `policy.yaml:4: methods["/shop.v1.Shop/Buy"].callers[0] "spiffe://a.test/friend"`}},
		{"closed by the service, opened by the file's word on it", closed, nil, onAll,
			policy.Decision{Allowed: true, Reason: policy.ReasonCallerAllowed, Rule: `policy.yaml:2: services["shop.v1.Shop"].callers[0] "spiffe://a.test/friend"`}},
		{"open by the service, closed by the file's word on it", callers(friend), nil, closing,
			policy.Decision{Reason: policy.ReasonMethodClosed, Rule: `policy.yaml:2: services["shop.v1.Shop"].nobody`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := compile(t, tt.yaml, protoFile{service: tt.service, methods: []method{{"Buy", tt.method}}}).Rule(buy)
			if got := *r.Decide(subject(friend)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Whom a client takes for a callee is part of what a policy says, also where no rule names the callee.
func TestHashKnowsWhatNamesStandFor(t *testing.T) {
	t.Parallel()
	bind := func(ledger string) string {
		return compile(t, "names:\n  ledger: {spiffe_ids: ["+ledger+"]}\n", one(callers("spiffe://a.test/x"))).Hash()
	}
	base := bind(`"spiffe://a.test/ledger", "spiffe://b.test/ledger"`)
	if again := bind(`"spiffe://b.test/ledger", "spiffe://a.test/ledger"`); again != base {
		t.Errorf("the order makes a difference")
	}
	for name, ids := range map[string]string{
		"another workload": `"spiffe://a.test/ledger", "spiffe://b.test/evil"`,
		"one more":         `"spiffe://a.test/ledger", "spiffe://b.test/ledger", "spiffe://c.test/ledger"`,
		"one less":         `"spiffe://a.test/ledger"`,
		"a pattern":        `"spiffe://a.test/**", "spiffe://b.test/ledger"`,
	} {
		if bind(ids) == base {
			t.Errorf("%s makes no difference", name)
		}
	}
	if renamed := compile(t, "names:\n  books: {spiffe_ids: [\"spiffe://a.test/ledger\", \"spiffe://b.test/ledger\"]}\n", one(callers("spiffe://a.test/x"))).Hash(); renamed == base {
		t.Error("another name makes no difference")
	}
}

// Who is on the deny list is nobody's callee, however it is named.
func TestNoCalleeIsOnTheDenyList(t *testing.T) {
	t.Parallel()
	p := compile(t, `
names:
  ledger: {spiffe_ids: ["spiffe://a.test/ledger/*", "spiffe://a.test/books"]}
deny_list:
  - {spiffe_id: "spiffe://a.test/ledger/2", reason: stolen}
  - {spiffe_id: "spiffe://b.test/**"}
`, one(callers("ledger")))
	for _, tt := range []struct{ callee, id, err string }{
		{"ledger", "spiffe://a.test/ledger/1", ""},
		{"ledger", "spiffe://a.test/books", ""},
		{"ledger", "spiffe://a.test/ledger/2", "spiffe://a.test/ledger/2 is not ledger"},
		{"spiffe://a.test/ledger/2", "spiffe://a.test/ledger/2", "spiffe://a.test/ledger/2 is not spiffe://a.test/ledger/2"},
		{"spiffe://a.test/**", "spiffe://a.test/ledger/2", "spiffe://a.test/ledger/2 is not spiffe://a.test/**"},
		{"spiffe://b.test/x", "spiffe://b.test/x", "spiffe://b.test/x is not spiffe://b.test/x"},
	} {
		m, err := p.Callee(tt.callee)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := m.Match(spiffeid.RequireFromString(tt.id)); err != nil {
			got = err.Error()
		}
		if got != tt.err || m.Matches(spiffeid.RequireFromString(tt.id)) != (tt.err == "") {
			t.Errorf("%s for %s: got %q, want %q", tt.id, tt.callee, got, tt.err)
		}
	}
}
