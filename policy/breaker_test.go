package policy_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/policy"
)

func breaker(t testing.TB, yaml, service, method string) *policy.Breaker {
	t.Helper()
	p, err := policy.Compile(parse(t, yaml), shop(t, "breaker {"+service+"}", call{name: "Buy", rule: "breaker {" + method + "}"}))
	if err != nil {
		t.Fatal(err)
	}
	return p.Rule(buy).Breaker()
}

// failures lists the codes that count.
func failures(b *policy.Breaker) (all []codes.Code) {
	for code := range uint32(64) {
		if b.Fails(code) {
			all = append(all, codes.Code(code))
		}
	}
	return all
}

func equal(a, b []codes.Code) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestBreakersHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	p, err := policy.Compile(nil, shop(t, "", call{name: "Buy"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*policy.Breaker{"absent": p.Rule(buy).Breaker(), "empty": breaker(t, "", "", "")} {
		if b.Disabled || b.ConsecutiveFailures != 5 || b.FailureRatio != 0 || b.MinCalls != 20 || b.Window != 10*time.Second || b.OpenFor != 30*time.Second ||
			b.HalfOpenProbes != 1 || b.SlowCall != 0 || b.MinDeadline != 100*time.Millisecond {
			t.Errorf("%s: %+v", name, b)
		}
		if got := failures(b); !equal(got, []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss}) {
			t.Errorf("%s: failures are %v", name, got)
		}
	}
}

func TestBreakersAreMergedFieldByField(t *testing.T) {
	t.Parallel()
	b := breaker(t, "services:\n  shop.v1.Shop: {breaker: {open_for: 2s, half_open_probes: 7}}\nmethods:\n  /shop.v1.Shop/Buy: {breaker: {consecutive_failures: 9, failure_codes: [UNIMPLEMENTED]}}\n",
		`consecutive_failures: 3 open_for { seconds: 1 } failure_codes: ["INTERNAL", "UNAVAILABLE"] slow_call { seconds: 4 }`,
		`half_open_probes: 8 failure_ratio: 0.5 min_calls: 10 window { seconds: 5 } min_deadline {}`)
	if b.ConsecutiveFailures != 9 || b.OpenFor != 2*time.Second || b.HalfOpenProbes != 8 || b.FailureRatio != 0.5 || b.MinCalls != 10 || b.Window != 5*time.Second ||
		b.SlowCall != 4*time.Second || b.MinDeadline != 0 {
		t.Errorf("%+v", b)
	}
	if got := failures(b); !equal(got, []codes.Code{codes.Unimplemented}) {
		t.Errorf("failures are %v: a later list replaces an earlier one", got)
	}
}

func TestBreakersThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	const provoked = " is in the hands of callers: one of them could open the circuit for all"
	tests := []struct{ name, rule, want string }{
		{"no such code", `failure_codes: ["INTERNAL", "UNAVAILABEL"]`, `.failure_codes[1]: no such status code: "UNAVAILABEL"; did you mean "UNAVAILABLE"?`},
		{"nothing like a code", `failure_codes: "SOMETHING_ELSE_ENTIRELY"`, `.failure_codes[0]: no such status code: "SOMETHING_ELSE_ENTIRELY"`},
		{"the other spelling of cancelled", `failure_codes: "CANCELED"`, `.failure_codes[0]: no such status code: "CANCELED"; did you mean "CANCELLED"?`},
		{"OK", `failure_codes: "OK"`, ".failure_codes[0]: OK is no failure"},
		{"a code twice", `failure_codes: ["INTERNAL", "INTERNAL"]`, ".failure_codes: repeated value must contain unique items"},
		{"CANCELLED", `failure_codes: "CANCELLED"`, ".failure_codes[0]: CANCELLED" + provoked},
		{"INVALID_ARGUMENT", `failure_codes: "INVALID_ARGUMENT"`, ".failure_codes[0]: INVALID_ARGUMENT" + provoked},
		{"NOT_FOUND", `failure_codes: "NOT_FOUND"`, ".failure_codes[0]: NOT_FOUND" + provoked},
		{"ALREADY_EXISTS", `failure_codes: "ALREADY_EXISTS"`, ".failure_codes[0]: ALREADY_EXISTS" + provoked},
		{"PERMISSION_DENIED", `failure_codes: "PERMISSION_DENIED"`, ".failure_codes[0]: PERMISSION_DENIED" + provoked},
		{"UNAUTHENTICATED", `failure_codes: "UNAUTHENTICATED"`, ".failure_codes[0]: UNAUTHENTICATED" + provoked},
		{"RESOURCE_EXHAUSTED", `failure_codes: "RESOURCE_EXHAUSTED"`, ".failure_codes[0]: RESOURCE_EXHAUSTED" + provoked},
		{"FAILED_PRECONDITION", `failure_codes: "FAILED_PRECONDITION"`, ".failure_codes[0]: FAILED_PRECONDITION" + provoked},
		{"OUT_OF_RANGE", `failure_codes: "OUT_OF_RANGE"`, ".failure_codes[0]: OUT_OF_RANGE" + provoked},
		{"UNIMPLEMENTED", `failure_codes: "UNIMPLEMENTED"`, ""},
		{"ABORTED", `failure_codes: "ABORTED"`, ".failure_codes[0]: ABORTED" + provoked},
		{"min_calls alone", "min_calls: 3", ": min_calls and window do nothing without failure_ratio"},
		{"a window alone", "window { seconds: 3 }", ": min_calls and window do nothing without failure_ratio"},
		{"a ratio of more than all", "failure_ratio: 1.1", ".failure_ratio: must be greater than or equal to 0 and less than or equal to 1"},
		{"a negative ratio", "failure_ratio: -0.1", ".failure_ratio: must be greater than or equal to 0 and less than or equal to 1"},
		{"a ratio that is no number", "failure_ratio: nan", ".failure_ratio: must be greater than or equal to 0 and less than or equal to 1"},
		{"a window that is too short", "failure_ratio: 1 window { nanos: 99999999 }", ".window: must be greater than or equal to 0.1s and less than or equal to 3600s"},
		{"open for no time", "open_for {}", ".open_for: must be greater than or equal to 0.001s and less than or equal to 3600s"},
		{"open for a day", "open_for { seconds: 86400 }", ".open_for: must be greater than or equal to 0.001s and less than or equal to 3600s"},
		{"every call is slow", "slow_call {}", ".slow_call: must be greater than 0s"},
		{"a negative deadline", "min_deadline { seconds: -1 }", ".min_deadline: must be greater than or equal to 0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: "breaker {" + tt.rule + "}"}))
			if tt.want == "" && err == nil {
				return
			}
			wantErrors(t, err, atBuy+".breaker"+tt.want)
		})
	}
	_, err := policy.Compile(parse(t, "methods:\n  /shop.v1.Shop/Buy:\n    breaker:\n      failure_codes: [INTERNAL, NOT_FOUND]\n"), shop(t, "", call{name: "Buy"}))
	wantErrors(t, err, `policy.yaml:4:33: methods["/shop.v1.Shop/Buy"].breaker.failure_codes[1]: NOT_FOUND`+provoked)
}

// What a method says of the window completes what its service says of the ratio: breakers are merged field by field.
func TestAWindowMayComeFromAnotherRuleThanItsRatio(t *testing.T) {
	t.Parallel()
	b := breaker(t, "", "failure_ratio: 0.5", "min_calls: 10")
	if b.FailureRatio != 0.5 || b.MinCalls != 10 {
		t.Errorf("%+v", b)
	}
	if b = breaker(t, "", "window { seconds: 5 }", "failure_ratio: 0.5"); b.FailureRatio != 0.5 || b.Window != 5*time.Second {
		t.Errorf("%+v", b)
	}
	// Where no rule of a method has a ratio, the window is still told to be of no use, once.
	_, err := policy.Compile(nil, shop(t, "breaker { min_calls: 10 }", call{name: "Buy"}, call{name: "Sell"}))
	wantErrors(t, err, "shop/v1/shop.proto: service shop.v1.Shop: (grpcguard.v1.service).breaker: min_calls and window do nothing without failure_ratio")
}
