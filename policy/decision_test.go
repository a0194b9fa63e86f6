package policy_test

import (
	"fmt"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

const names = `
names:
  teller:
    spiffe_ids:
      - spiffe://bank.test/teller
      - spiffe://bank.test/branch/*/teller
  ops: {spiffe_ids: ["spiffe://ops.test/**"]}
deny_list:
  - spiffe_id: spiffe://bank.test/branch/7/teller
    reason: stolen
  - spiffe_id: spiffe://ops.test/contractor/**
  - serial: abc123
`

func TestDecisions(t *testing.T) {
	t.Parallel()
	rule := &grpcguardv1.Rule{
		Callers:       []string{"teller", "ops", "spiffe://bank.test/audit", "spiffe://bank.test/a/**"},
		DeniedCallers: []string{"spiffe://ops.test/intern", "spiffe://bank.test/a/b/**"},
	}
	const at = "shop/v1/shop.proto: /shop.v1.Shop/Buy: (grpcguard.v1.method)"
	tests := []struct {
		id, serial string
		allowed    bool
		reason     policy.Reason
		rule       string
	}{
		{"spiffe://bank.test/teller", "1", true, policy.ReasonCallerAllowed, at + `.callers[0] "teller" = spiffe://bank.test/teller (policy.yaml:5)`},
		{"spiffe://bank.test/branch/3/teller", "1", true, policy.ReasonCallerAllowed, at + `.callers[0] "teller" = spiffe://bank.test/branch/*/teller (policy.yaml:6)`},
		{"spiffe://ops.test/anybody", "1", true, policy.ReasonCallerAllowed, at + `.callers[1] "ops" = spiffe://ops.test/** (policy.yaml:7)`},
		{"spiffe://bank.test/audit", "1", true, policy.ReasonCallerAllowed, at + `.callers[2] "spiffe://bank.test/audit"`},
		{"spiffe://bank.test/a/x", "1", true, policy.ReasonCallerAllowed, at + `.callers[3] "spiffe://bank.test/a/**"`},
		{"spiffe://bank.test/a/b/x", "1", false, policy.ReasonCallerDenied, at + `.denied_callers[1] "spiffe://bank.test/a/b/**"`},
		{"spiffe://ops.test/intern", "1", false, policy.ReasonCallerDenied, at + `.denied_callers[0] "spiffe://ops.test/intern"`},
		{"spiffe://bank.test/branch/7/teller", "1", false, policy.ReasonDenyList, "policy.yaml:9: deny_list[0] (stolen)"},
		{"spiffe://ops.test/contractor/x", "1", false, policy.ReasonDenyList, "policy.yaml:11: deny_list[1]"},
		{"spiffe://bank.test/teller", "abc123", false, policy.ReasonDenyList, "policy.yaml:12: deny_list[2]"},
		{"spiffe://bank.test/stranger", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://bank.test/teller2", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://bank.test/tell", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://bank.test.evil.test/teller", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://evil.test/teller", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://bank.test/branch/3/4/teller", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://bank.test/a", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"spiffe://ops.test", "1", false, policy.ReasonCallerNotListed, at + ".callers"},
		{"", "1", false, policy.ReasonNoIdentity, at + ".callers"},
		{"", "abc123", false, policy.ReasonNoIdentity, at + ".callers"},
	}
	// The same answer every time: nothing may depend on the order of a map.
	for range 20 {
		r := compile(t, names, one(rule)).Rule(buy)
		for _, tt := range tests {
			s := policy.Subject{Serial: tt.serial}
			if tt.id != "" {
				s.ID = spiffeid.RequireFromString(tt.id)
			}
			if got, want := *r.Decide(s), (policy.Decision{Allowed: tt.allowed, Reason: tt.reason, Rule: tt.rule}); got != want {
				t.Errorf("%s: got %+v, want %+v", tt.id, got, want)
			}
		}
	}
}

func TestNothingIsAllowedByAbsence(t *testing.T) {
	t.Parallel()
	who := policy.Subject{ID: spiffeid.RequireFromString("spiffe://bank.test/teller")}
	if d := (*policy.Rule)(nil).Decide(who); d.Allowed || d.Reason != policy.ReasonNoRule {
		t.Errorf("a nil rule: %+v", d)
	}
	if r := (&policy.Policy{}).Rule(buy); r != nil {
		t.Errorf("the zero policy has a rule: %+v", r)
	}
	p := compile(t, names, protoFile{methods: []method{{"Buy", nil}, {"Denied", &grpcguardv1.Rule{DeniedCallers: []string{"teller"}}}, {"Closed", &grpcguardv1.Rule{Nobody: true}}}})
	for _, m := range []string{buy, "/shop.v1.Shop/Denied", "", "/", "shop.v1.Shop/Closed", "/shop.v1.Shop/closed", "/shop.v1.Shop/Closed/", "//shop.v1.Shop/Closed"} {
		if p.Rule(m) != nil {
			t.Errorf("%q has a rule", m)
		}
	}
	if d := p.Rule("/shop.v1.Shop/Closed").Decide(who); d.Allowed || d.Reason != policy.ReasonMethodClosed {
		t.Errorf("closed: %+v", d)
	}
	var zero policy.Reason
	if zero != policy.ReasonNoRule || policy.Reason(200).String() != "unknown" {
		t.Error("the zero reason must be a denial")
	}
}

func TestServiceMethodAndFileAreMergedFieldByField(t *testing.T) {
	t.Parallel()
	f := protoFile{
		service: &grpcguardv1.Rule{Callers: []string{"spiffe://a.test/service"}, DeniedCallers: []string{"spiffe://a.test/d1"}, MaxRequestBytes: new(uint64(100))},
		methods: []method{
			{"Inherits", nil},
			{"Overrides", &grpcguardv1.Rule{Callers: []string{"spiffe://a.test/method"}, DeniedCallers: []string{"spiffe://a.test/d2"}, MaxResponseBytes: new(uint64(50))}},
			{"Closed", &grpcguardv1.Rule{Nobody: true}},
			{"Opened", &grpcguardv1.Rule{Nobody: true}},
			{"ClosedInFile", nil},
		},
	}
	p := compile(t, `
services:
  shop.v1.Shop: {max_deadline: 7s}
methods:
  /shop.v1.Shop/Opened: {callers: ["spiffe://a.test/file"], max_request_bytes: 5}
  /shop.v1.Shop/ClosedInFile: {nobody: true, max_deadline: 2s}
`, f)
	tests := []struct {
		method              string
		allowed, denied     string
		reason              policy.Reason
		deadline            string
		maxRequest, maxResp int
	}{
		{"Inherits", "service", "d1", policy.ReasonCallerDenied, "7s", 100, policy.DefaultMaxMessageBytes},
		{"Overrides", "method", "service", policy.ReasonCallerNotListed, "7s", 100, 50},
		{"Overrides", "method", "d1", policy.ReasonCallerDenied, "7s", 100, 50},
		{"Overrides", "method", "d2", policy.ReasonCallerDenied, "7s", 100, 50},
		{"Closed", "", "service", policy.ReasonMethodClosed, "7s", 100, policy.DefaultMaxMessageBytes},
		{"Opened", "file", "service", policy.ReasonCallerNotListed, "7s", 5, policy.DefaultMaxMessageBytes},
		{"ClosedInFile", "", "service", policy.ReasonMethodClosed, "2s", 100, policy.DefaultMaxMessageBytes},
	}
	for _, tt := range tests {
		r := p.Rule("/shop.v1.Shop/" + tt.method)
		if tt.allowed != "" {
			if d := r.Decide(policy.Subject{ID: spiffeid.RequireFromString("spiffe://a.test/" + tt.allowed)}); !d.Allowed {
				t.Errorf("%s: %s is denied: %+v", tt.method, tt.allowed, d)
			}
		}
		if d := r.Decide(policy.Subject{ID: spiffeid.RequireFromString("spiffe://a.test/" + tt.denied)}); d.Allowed || d.Reason != tt.reason {
			t.Errorf("%s: %s: %+v", tt.method, tt.denied, d)
		}
		if r.MaxDeadline().String() != tt.deadline || r.MaxRequestBytes() != tt.maxRequest || r.MaxResponseBytes() != tt.maxResp {
			t.Errorf("%s: %v %d %d", tt.method, r.MaxDeadline(), r.MaxRequestBytes(), r.MaxResponseBytes())
		}
	}
}

func TestHashSaysWhatAPolicySays(t *testing.T) {
	t.Parallel()
	base := compile(t, names, one(callers("teller", "ops")))
	same := compile(t, "# a comment\nrevision: other\n"+names, one(callers("ops", "teller")))
	if base.Hash() != same.Hash() || len(base.Hash()) != 64 {
		t.Errorf("%s, %s", base.Hash(), same.Hash())
	}
	if same.Revision() != "other" {
		t.Errorf("revision %q", same.Revision())
	}
	for name, other := range map[string]*policy.Policy{
		"a caller":      compile(t, names, one(callers("teller"))),
		"the deny list": compile(t, names+"  - serial: ff\n", one(callers("teller", "ops"))),
		"a limit":       compile(t, names, one(&grpcguardv1.Rule{Callers: []string{"teller", "ops"}, MaxRequestBytes: new(uint64(7))})),
		"a denial":      compile(t, names, one(&grpcguardv1.Rule{Callers: []string{"teller", "ops"}, DeniedCallers: []string{"spiffe://x.test/y"}})),
		"nobody":        compile(t, names, one(&grpcguardv1.Rule{Nobody: true})),
	} {
		if other.Hash() == base.Hash() {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestCallees(t *testing.T) {
	t.Parallel()
	p := compile(t, names, one(callers("teller")))
	for _, tt := range []struct {
		callee, id string
		err        string
	}{
		{"teller", "spiffe://bank.test/branch/1/teller", ""},
		{"teller", "spiffe://bank.test/other", "spiffe://bank.test/other is not teller"},
		{"spiffe://bank.test/x", "spiffe://bank.test/x", ""},
		{"spiffe://bank.test/x", "spiffe://bank.test/xy", "spiffe://bank.test/xy is not spiffe://bank.test/x"},
	} {
		m, err := p.Callee(tt.callee)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Match(spiffeid.RequireFromString(tt.id)); fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
			t.Errorf("%s: %v, want %s", tt.callee, err, tt.err)
		}
	}
	for callee, want := range map[string]string{
		"tellr":           `policy: callee: the name "tellr" is not bound in policy.yaml; did you mean "teller"?`,
		"":                `policy: callee: the name "" is not bound in policy.yaml`,
		"spiffe://bank.*": `policy: callee "spiffe://bank.*": the trust domain cannot be a wildcard`,
		"*":               `policy: callee "*" does not begin with "spiffe://"`,
	} {
		if _, err := p.Callee(callee); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", callee, err, want)
		}
	}
	if (policy.Matcher{}).Matches(spiffeid.RequireFromString("spiffe://a.test/b")) {
		t.Error("the zero Matcher matches")
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	p := compile(t, names, one(callers("teller", "ops")))
	r := p.Rule(buy)
	for _, id := range []string{"spiffe://bank.test/teller", "spiffe://bank.test/branch/1/teller", "spiffe://nobody.test/x"} {
		s := policy.Subject{ID: spiffeid.RequireFromString(id), Serial: "1"}
		if n := testing.AllocsPerRun(100, func() { p.Rule(buy); r.Decide(s) }); n != 0 {
			t.Errorf("%s: %v allocations", id, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 500, 50_000} {
		b.Run(fmt.Sprintf("%d rules", n), func(b *testing.B) {
			f := protoFile{}
			for i := range n {
				f.methods = append(f.methods, method{fmt.Sprintf("M%d", i), callers(fmt.Sprintf("spiffe://bank.test/caller/%d", i), "teller")})
			}
			p := compile(b, names, f)
			s := policy.Subject{ID: spiffeid.RequireFromString("spiffe://bank.test/teller"), Serial: "1"}
			m := fmt.Sprintf("/shop.v1.Shop/M%d", n/2)
			b.ReportAllocs()
			for b.Loop() {
				if !p.Rule(m).Decide(s).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
