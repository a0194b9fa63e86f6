package policy_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/grpcguard/grpcguard/policy"
)

// moneyProto is google/type/money.proto, of which there is no Go package here.
const moneyProto = `name: "google/type/money.proto" package: "google.type" syntax: "proto3"
	message_type {
		name: "Money"
		field { name: "currency_code" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
		field { name: "units" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 }
		field { name: "nanos" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 }
	}`

// orderProto has a field of each kind that a limit can be declared on, and of each that it cannot.
const orderProto = `name: "shop/v1/shop.proto" package: "shop.v1" syntax: "proto3" dependency: "google/type/money.proto"
	enum_type { name: "Channel" value { name: "CHANNEL_UNSPECIFIED" number: 0 } }
	message_type {
		name: "Order"
		field { name: "account" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
		field { name: "from" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".shop.v1.Party" }
		field { name: "amount" number: 3 label: LABEL_OPTIONAL type: TYPE_INT64 }
		field { name: "price" number: 4 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.type.Money" }
		field { name: "currency" number: 5 label: LABEL_OPTIONAL type: TYPE_STRING }
		field { name: "ratio" number: 6 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
		field { name: "share" number: 7 label: LABEL_OPTIONAL type: TYPE_FLOAT }
		field { name: "tags" number: 8 label: LABEL_REPEATED type: TYPE_STRING }
		field { name: "labels" number: 9 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".shop.v1.Order.LabelsEntry" }
		field { name: "parties" number: 10 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".shop.v1.Party" }
		field { name: "channel" number: 11 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".shop.v1.Channel" }
		field { name: "token" number: 12 label: LABEL_OPTIONAL type: TYPE_BYTES }
		field { name: "urgent" number: 13 label: LABEL_OPTIONAL type: TYPE_BOOL }
		field { name: "like" number: 14 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".shop.v1.Money" }
		field { name: "self" number: 15 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".shop.v1.Order" }
		field { name: "uint32" number: 16 label: LABEL_OPTIONAL type: TYPE_UINT32 }
		field { name: "sfixed64" number: 17 label: LABEL_OPTIONAL type: TYPE_SFIXED64 }
		nested_type {
			name: "LabelsEntry"
			field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
			field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
			options { map_entry: true }
		}
	}
	message_type { name: "Party" field { name: "account" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
	message_type { name: "Money" field { name: "units" number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 } }`

// call is a method of the shop, with its rule as prototext; callers are added.
type call struct {
	name, rule     string
	client, server bool
}

const anybody = ` callers: "spiffe://bank.test/teller" `

// shop builds a file with a service whose rules are given as prototext.
func shop(t testing.TB, service string, methods ...call) protoreflect.FileDescriptor {
	t.Helper()
	text := orderProto + ` service { name: "Shop" options { [grpcguard.v1.service] {` + anybody + service + `} }`
	for _, m := range methods {
		text += fmt.Sprintf(` method { name: %q input_type: ".shop.v1.Order" output_type: ".shop.v1.Order" client_streaming: %v server_streaming: %v`,
			m.name, m.client, m.server)
		if m.rule != "" {
			text += ` options { [grpcguard.v1.method] {` + m.rule + `} }`
		}
		text += " }"
	}
	files := &protoregistry.Files{}
	var file protoreflect.FileDescriptor
	for _, one := range []string{moneyProto, text + " }"} {
		parsed := &descriptorpb.FileDescriptorProto{}
		if err := prototext.Unmarshal([]byte(one), parsed); err != nil {
			t.Fatal(err)
		}
		var err error
		if file, err = protodesc.NewFile(parsed, files); err != nil {
			t.Fatal(err)
		}
		if err := files.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// limit compiles one rate limit of Buy.
func limit(t testing.TB, text string) *policy.RateLimit {
	t.Helper()
	p, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: "rate_limits {" + text + "}"}))
	if err != nil {
		t.Fatal(err)
	}
	all := p.Rule(buy).RateLimits()
	if len(all) != 1 {
		t.Fatalf("%d limits", len(all))
	}
	return all[0]
}

func TestRateLimitsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	const tenAMinute = "requests: 10 per { seconds: 60 } "
	unary, upload := call{name: "Buy"}, call{name: "Buy", client: true}
	tests := []struct {
		name string
		call call
		rule string   // of the limit
		want []string // below rate_limits[0]
	}{
		{"no permits", unary, "requests: 0 per { seconds: 60 }", []string{".requests: must be greater than or equal to 1"}},
		{"no period", unary, "requests: 10", []string{".per: value is required"}},
		{"a period of zero", unary, "requests: 10 per {}", []string{".per: must be greater than or equal to 0.001s and less than or equal to 31622400s"}},
		{"a negative period", unary, "requests: 10 per { seconds: -1 }", []string{".per: must be greater than or equal to 0.001s and less than or equal to 31622400s"}},
		{"a period of two years", unary, "requests: 10 per { seconds: 63072000 }", []string{".per: must be greater than or equal to 0.001s and less than or equal to 31622400s"}},
		{"a period that no duration holds", unary, "requests: 10 per { seconds: 9223372036854775807 }", []string{
			".burst: takes longer than two years to come back",
			".per: must be greater than or equal to 0.001s and less than or equal to 31622400s",
		}},
		{"more a second than can be counted", unary, "requests: 8000000001 per { seconds: 1 }", []string{
			".requests: 8000000001 in 1s are more than 8000000000 a second, which cannot be counted",
		}},
		{"as many as a number holds", unary, "requests: 18446744073709551615 per { seconds: 31622400 }", []string{
			".requests: 18446744073709551615 in 8784h0m0s are more than 8000000000 a second, which cannot be counted",
		}},
		{"a burst that takes three years to come back", unary, "requests: 1 per { seconds: 31536000 } burst: 3", []string{
			".burst: takes longer than two years to come back",
		}},
		{"a burst as large as a number holds", unary, tenAMinute + "burst: 18446744073709551615", []string{
			".burst: takes longer than two years to come back",
		}},

		{"the key that is none", unary, tenAMinute + "key: KEY_UNSPECIFIED", []string{".key[0]: must not be in list [0]"}},
		{"a key of tomorrow", unary, tenAMinute + "key: [KEY_CALLER, KEY_END_USER]", []string{
			".key[1]: KEY_END_USER is not enforced by this version of grpcguard; remove it",
		}},
		{"a key twice", unary, tenAMinute + "key: [KEY_CALLER, KEY_CALLER]", []string{".key: repeated value must contain unique items"}},
		{"a key field twice", unary, tenAMinute + `key_fields: ["account", "account"]`, []string{".key_fields: repeated value must contain unique items"}},
		{"a field that is not there", unary, tenAMinute + `key_fields: "acount"`, []string{
			`.key_fields[0]: "acount": shop.v1.Order has no field "acount"; did you mean "account"?`,
		}},
		{"a field that is not in the inner message", unary, tenAMinute + `key_fields: ["account", "from.acount"]`, []string{
			`.key_fields[1]: "from.acount": shop.v1.Party has no field "acount"; did you mean "account"?`,
		}},
		{"nothing like it", unary, tenAMinute + `key_fields: "warehouse"`, []string{`.key_fields[0]: "warehouse": shop.v1.Order has no field "warehouse"`}},
		{"the JSON name", unary, tenAMinute + `key_fields: "from.Account"`, []string{
			`.key_fields[0]: "from.Account": shop.v1.Party has no field "Account"; did you mean "account"?`,
		}},
		{"no path", unary, tenAMinute + `key_fields: ""`, []string{`.key_fields[0]: "": shop.v1.Order has no field ""`}},
		{"a dot at the end", unary, tenAMinute + `key_fields: "from."`, []string{`.key_fields[0]: "from.": shop.v1.Party has no field ""`}},
		{"a field of a string", unary, tenAMinute + `key_fields: "account.number"`, []string{
			`.key_fields[0]: "account.number": shop.v1.Order.account is a string and has no fields`,
		}},
		{"a field of an enum", unary, tenAMinute + `key_fields: "channel.x"`, []string{
			`.key_fields[0]: "channel.x": shop.v1.Order.channel is a enum and has no fields`,
		}},
		{"a map", unary, tenAMinute + `key_fields: "labels"`, []string{`.key_fields[0]: "labels": shop.v1.Order.labels is a map; a path leads to one value`}},
		{"into a map", unary, tenAMinute + `key_fields: "labels.value"`, []string{
			`.key_fields[0]: "labels.value": shop.v1.Order.labels is a map; a path leads to one value`,
		}},
		{"a list", unary, tenAMinute + `key_fields: "tags"`, []string{`.key_fields[0]: "tags": shop.v1.Order.tags is repeated; a path leads to one value`}},
		{"into a list", unary, tenAMinute + `key_fields: "parties.account"`, []string{
			`.key_fields[0]: "parties.account": shop.v1.Order.parties is repeated; a path leads to one value`,
		}},
		{"a message", unary, tenAMinute + `key_fields: "from"`, []string{`.key_fields[0]: "from" is a message; name one of its fields`}},
		{"a double", unary, tenAMinute + `key_fields: "ratio"`, []string{`.key_fields[0]: "ratio" is a floating-point number, which is no key`}},
		{"a float", unary, tenAMinute + `key_fields: "share"`, []string{`.key_fields[0]: "share" is a floating-point number, which is no key`}},
		{"fields on a stream that opens without any", upload, tenAMinute + `key_fields: "account"`, []string{
			": /shop.v1.Shop/Buy opens with no message, so a limit that looks into messages needs per_message: true",
		}},
		{"a key function on such a stream", upload, tenAMinute + `key_function: "tenant"`, []string{
			": /shop.v1.Shop/Buy opens with no message, so a limit that looks into messages needs per_message: true",
		}},
		{"a cost on such a stream", upload, tenAMinute + `cost_field: "amount"`, []string{
			": /shop.v1.Shop/Buy opens with no message, so a limit that looks into messages needs per_message: true",
		}},

		{"a cost that is text", unary, tenAMinute + `cost_field: "account"`, []string{`.cost_field: "account" is neither an integer nor a google.type.Money`}},
		{"a cost that is true or false", unary, tenAMinute + `cost_field: "urgent"`, []string{`.cost_field: "urgent" is neither an integer nor a google.type.Money`}},
		{"a cost that is an enum", unary, tenAMinute + `cost_field: "channel"`, []string{`.cost_field: "channel" is neither an integer nor a google.type.Money`}},
		{"a cost in floating point", unary, tenAMinute + `cost_field: "ratio"`, []string{`.cost_field: "ratio" is neither an integer nor a google.type.Money`}},
		{"a cost that is another Money", unary, tenAMinute + `cost_field: "like"`, []string{`.cost_field: "like" is neither an integer nor a google.type.Money`}},
		{"a cost that is not there", unary, tenAMinute + `cost_field: "amounts"`, []string{
			`.cost_field: "amounts": shop.v1.Order has no field "amounts"; did you mean "amount"?`,
		}},
		{"money of any currency", unary, tenAMinute + `cost_field: "price"`, []string{
			".currency: a limit on a google.type.Money is a sum in one currency: say which",
		}},
		{"money with a field for its currency", unary, tenAMinute + `cost_field: "price" currency: "EUR" currency_field: "currency"`, []string{
			".currency_field: a google.type.Money holds its currency itself",
		}},
		{"a currency without its field", unary, tenAMinute + `cost_field: "amount" currency: "EUR"`, []string{
			".currency: currency and currency_field belong together",
		}},
		{"a field without its currency", unary, tenAMinute + `cost_field: "amount" currency_field: "currency"`, []string{
			".currency: currency and currency_field belong together",
		}},
		{"a currency of nothing", unary, tenAMinute + `currency: "EUR" currency_field: "currency"`, []string{
			".currency_field: does nothing without cost_field",
		}},
		{"a currency in small letters", unary, tenAMinute + `cost_field: "price" currency: "eur"`, []string{
			".currency: does not match regex pattern `^([A-Z]{3})?$`",
		}},
		{"a currency field that is a number", unary, tenAMinute + `cost_field: "amount" currency: "EUR" currency_field: "uint32"`, []string{
			`.currency_field: "uint32" is not a string`,
		}},
		{"a currency field that is not there", unary, tenAMinute + `cost_field: "amount" currency: "EUR" currency_field: "currenci"`, []string{
			`.currency_field: "currenci": shop.v1.Order has no field "currenci"; did you mean "currency"?`,
		}},
		{"a call that costs nothing", unary, tenAMinute + "permits: 0", []string{".permits: must be greater than or equal to 1"}},
		{"a call that costs more than there ever is", unary, tenAMinute + "permits: 11", []string{
			".permits: a call costs 11 permits, and there are never more than 10",
		}},
		{"a call that costs more than the burst", unary, tenAMinute + "burst: 3 permits: 4", []string{
			".permits: a call costs 4 permits, and there are never more than 3",
		}},

		{"a lease of more than there ever is", unary, tenAMinute + "lease: 11", []string{".lease: there are never more than 10 permits to take"}},
		{"a lease of money", unary, `requests: 10 per { seconds: 60 } cost_field: "price" currency: "EUR" lease: 11`, []string{
			".lease: there are never more than 10 permits to take",
		}},
		{"a lease in a limit of one process", unary, tenAMinute + "scope: SCOPE_PROCESS lease: 2", []string{
			".scope: lease, store_timeout and on_store_failure do nothing where each process counts for itself",
		}},
		{"a timeout in a limit of one process", unary, tenAMinute + "scope: SCOPE_PROCESS store_timeout { seconds: 1 }", []string{
			".scope: lease, store_timeout and on_store_failure do nothing where each process counts for itself",
		}},
		{"a failure in a limit of one process", unary, tenAMinute + "scope: SCOPE_PROCESS on_store_failure: STORE_FAILURE_LOCAL", []string{
			".scope: lease, store_timeout and on_store_failure do nothing where each process counts for itself",
		}},
		{"no time for the store", unary, tenAMinute + "store_timeout {}", []string{
			".store_timeout: must be greater than or equal to 0.001s and less than or equal to 10s",
		}},
		{"a minute for the store", unary, tenAMinute + "store_timeout { seconds: 60 }", []string{
			".store_timeout: must be greater than or equal to 0.001s and less than or equal to 10s",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.call.rule = "rate_limits {" + tt.rule + "}"
			_, err := policy.Compile(nil, shop(t, "", tt.call))
			var want []string
			for _, w := range tt.want {
				want = append(want, atBuy+".rate_limits[0]"+w)
			}
			wantErrors(t, err, want...)
		})
	}
}

// Errors of limits in the policy file have its lines.
func TestRateLimitsOfTheFileThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	_, err := policy.Compile(parse(t, `methods:
  /shop.v1.Shop/Buy:
    rate_limits:
      - requests: 10
        per: 60s
        key_fields: [account, from.acount]
      - requests: 5
        per: 1s
        burst: 2
        lease: 3
        cost_field: tags
`), shop(t, "", call{name: "Buy"}))
	wantErrors(t, err,
		`policy.yaml:6:31: methods["/shop.v1.Shop/Buy"].rate_limits[0].key_fields[1]: "from.acount": shop.v1.Party has no field "acount"; did you mean "account"?`,
		`policy.yaml:10:9: methods["/shop.v1.Shop/Buy"].rate_limits[1].lease: there are never more than 2 permits to take`,
		`policy.yaml:11:9: methods["/shop.v1.Shop/Buy"].rate_limits[1].cost_field: "tags": shop.v1.Order.tags is repeated; a path leads to one value`,
	)
	for _, tt := range []struct{ text, want string }{
		{"requests: 0, per: 1s", "policy.yaml:3:30: "},
		{"requests: -1, per: 1s", "policy.yaml:3:30: "},
		{"requests: 18446744073709551616, per: 1s", "policy.yaml:3:30: "},
		{"requests: 1, per: 0s", "policy.yaml:3:"},
		{"requests: 1", "policy.yaml:3:19: "},
		{"requests: 1, per: 1s, key: [KEY_UNSPECIFIED]", "policy.yaml:3:"},
		{"requests: 1, per: 1s, permits: 1, cost_field: amount", "policy.yaml:3:"},
	} {
		_, err := policy.ParseFile("policy.yaml", []byte("methods:\n  /shop.v1.Shop/Buy:\n    rate_limits: [{"+tt.text+"}]\n"))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", tt.text, err)
		}
	}
}

// What is wrong with a service's declaration is said once, however many methods share it.
func TestAServicesMistakeIsReportedOnce(t *testing.T) {
	t.Parallel()
	_, err := policy.Compile(nil, shop(t, `rate_limits { requests: 1 per { seconds: 1 } key_fields: "acount" permits: 2 }`,
		call{name: "A"}, call{name: "B"}, call{name: "C"}))
	const at = "shop/v1/shop.proto: service shop.v1.Shop: (grpcguard.v1.service).rate_limits[0]"
	wantErrors(t, err,
		at+`.key_fields[0]: "acount": shop.v1.Order has no field "acount"; did you mean "account"?`,
		at+".permits: a call costs 2 permits, and there are never more than 1",
	)
}

func TestRateLimitsHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	l := limit(t, "requests: 10 per { seconds: 60 }")
	if l.Name != buy+"#0" || l.At != atBuy+".rate_limits[0]" || l.Permits != 10 || l.Burst != 10 || l.Per != time.Minute || l.Scale != 1 ||
		len(l.Keys) != 1 || l.Keys[0] != policy.LimitByCaller || l.Cost != 1 || !l.CostField.IsZero() || l.PerMessage || l.Process || l.Shared ||
		l.LocalOnFailure || l.StoreTimeout != 50*time.Millisecond || l.Lease != 0 || l.NeedsMessage() {
		t.Errorf("%+v", l)
	}
	for _, tt := range []struct {
		text  string
		keys  []policy.LimitKey
		needs bool
	}{
		{`key_fields: "account"`, nil, true},
		{`key_function: "tenant"`, nil, true},
		{`cost_field: "amount"`, []policy.LimitKey{policy.LimitByCaller}, true},
		{`key: KEY_METHOD`, []policy.LimitKey{policy.LimitByMethod}, false},
		{`key: [KEY_ADDRESS, KEY_TRUST_DOMAIN, KEY_CALLER, KEY_METHOD]`, []policy.LimitKey{
			policy.LimitByAddress, policy.LimitByTrustDomain, policy.LimitByCaller, policy.LimitByMethod,
		}, false},
		{`key: KEY_CALLER key_fields: ["self.self.from.account", "token", "urgent", "channel", "uint32", "sfixed64"]`, []policy.LimitKey{policy.LimitByCaller}, true},
	} {
		l := limit(t, "requests: 10 per { seconds: 60 } "+tt.text)
		if !slices.Equal(l.Keys, tt.keys) || l.NeedsMessage() != tt.needs {
			t.Errorf("%s: %+v", tt.text, l)
		}
	}
	l = limit(t, `requests: 10 per { seconds: 60 } burst: 20 permits: 3 on_store_failure: STORE_FAILURE_LOCAL
		store_timeout { seconds: 2 } scope: SCOPE_SHARED lease: 4 key_function: "tenant"`)
	if l.Burst != 20 || l.Cost != 3 || !l.LocalOnFailure || l.StoreTimeout != 2*time.Second || !l.Shared || l.Lease != 4 || l.KeyFunction != "tenant" {
		t.Errorf("%+v", l)
	}
}

// A limit on a service is one limit, by whatever rule of the service: its methods have it under one name. One on a method is its own.
func TestServiceLimitsShareAName(t *testing.T) {
	t.Parallel()
	const two = `rate_limits { requests: 10 per { seconds: 1 } } rate_limits { requests: 100 per { seconds: 60 } }`
	own := call{name: "C", rule: "rate_limits { requests: 1 per { seconds: 1 } }"}
	namesOf := func(p *policy.Policy, method string) (names string) {
		for _, l := range p.Rule("/shop.v1.Shop/" + method).RateLimits() {
			names += fmt.Sprintf("%s=%d ", l.Name, l.Permits)
		}
		return strings.TrimSuffix(names, " ")
	}
	tests := []struct {
		name, yaml string
		want       map[string]string
	}{
		{"annotations", "", map[string]string{
			"A": "shop.v1.Shop#0=10 shop.v1.Shop#1=100", "B": "shop.v1.Shop#0=10 shop.v1.Shop#1=100", "C": "/shop.v1.Shop/C#0=1",
		}},
		{"the file's service replaces the list, and not a method's", "services:\n  shop.v1.Shop: {rate_limits: [{requests: 7, per: 1s}]}\n", map[string]string{
			"A": "shop.v1.Shop#0=7", "B": "shop.v1.Shop#0=7", "C": "/shop.v1.Shop/C#0=1",
		}},
		{"the file's method replaces either", "methods:\n  /shop.v1.Shop/A: {rate_limits: [{requests: 8, per: 1s}]}\n  /shop.v1.Shop/C: {rate_limits: [{requests: 9, per: 1s}]}\n", map[string]string{
			"A": "/shop.v1.Shop/A#0=8", "B": "shop.v1.Shop#0=10 shop.v1.Shop#1=100", "C": "/shop.v1.Shop/C#0=9",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Compile(parse(t, tt.yaml), shop(t, two, call{name: "A"}, call{name: "B"}, own))
			if err != nil {
				t.Fatal(err)
			}
			for method, want := range tt.want {
				if got := namesOf(p, method); got != want {
					t.Errorf("%s: got %s, want %s", method, got, want)
				}
			}
		})
	}
}

// Money is counted as finely as the numbers allow, never more finely than it is, and what is allowed stays the same sum.
func TestMoneyIsScaled(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text                   string
		scale, permits, burst, lease uint64
	}{
		{"a million a day", "requests: 1000000 per { seconds: 86400 }", 1e5, 1e11, 1e11, 0},
		{"a million a day, a thousand at once", "requests: 1000000 per { seconds: 86400 } burst: 1000 lease: 10", 1e5, 1e11, 1e8, 1e6},
		{"one a day", "requests: 1 per { seconds: 86400 }", 1e9, 1e9, 1e9, 0},
		{"one a year", "requests: 1 per { seconds: 31536000 }", 1e9, 1e9, 1e9, 0},
		{"a hundred thousand a second, to the cent", "requests: 80000 per { seconds: 1 }", 100, 8e6, 8e6, 0},
		{"eight million a second, in whole units", "requests: 8000000 per { seconds: 1 }", 1, 8e6, 8e6, 0},
		{"more than that, in whole units", "requests: 8000000000 per { seconds: 1 }", 1, 8e9, 8e9, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := limit(t, tt.text+` cost_field: "price" currency: "EUR"`)
			if !l.CostIsMoney || l.Scale != tt.scale || l.Permits != tt.permits || l.Burst != tt.burst || l.Lease != tt.lease {
				t.Errorf("scale %d, permits %d, burst %d, lease %d", l.Scale, l.Permits, l.Burst, l.Lease)
			}
			if l.Currency != "EUR" || l.CostField.String() != "price" || !l.NeedsMessage() {
				t.Errorf("%+v", l)
			}
		})
	}
	if l := limit(t, `requests: 1000000 per { seconds: 86400 } cost_field: "amount" currency: "EUR" currency_field: "currency"`); l.Scale != 1 || l.CostIsMoney || l.CurrencyField.String() != "currency" {
		t.Errorf("minor units are scaled: %+v", l)
	}
}

// At the edges of what numbers hold a limit compiles to what it says, or is refused; it never becomes another.
func TestRateLimitsAtTheEdges(t *testing.T) {
	t.Parallel()
	edges := []uint64{1, 2, 1e3, 8e9 - 1, 8e9, 8e9 + 1, 1 << 53, 1<<53 + 1, math.MaxInt64, math.MaxUint64 - 1, math.MaxUint64}
	for _, cost := range []string{"", `cost_field: "amount"`, `cost_field: "price" currency: "EUR"`} {
		for _, requests := range edges {
			for _, burst := range edges {
				for _, per := range []string{"nanos: 1000000", "seconds: 1", "seconds: 31622400"} {
					text := fmt.Sprintf("rate_limits { requests: %d burst: %d per { %s } %s }", requests, burst, per, cost)
					p, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: text}))
					if err != nil {
						for line := range strings.Lines(err.Error()) {
							if !strings.Contains(line, "which cannot be counted") && !strings.Contains(line, "two years to come back") {
								t.Errorf("%s: %s", text, line)
							}
						}
						continue
					}
					l := p.Rule(buy).RateLimits()[0]
					if l.Permits != requests*l.Scale || l.Burst != burst*l.Scale || l.Permits/l.Scale != requests || l.Burst/l.Scale != burst {
						t.Errorf("%s became %d and %d, of %d a unit", text, l.Permits, l.Burst, l.Scale)
					}
				}
			}
		}
	}
}

// Another limit is another policy.
func TestControlsAreInTheHash(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, rule := range []string{
		"", "rate_limits { requests: 1 per { seconds: 1 } }", "rate_limits { requests: 2 per { seconds: 1 } }", "rate_limits { requests: 1 per { seconds: 2 } }",
		"rate_limits { requests: 1 per { seconds: 1 } key: KEY_METHOD }", "rate_limits { requests: 1 per { seconds: 1 } scope: SCOPE_PROCESS }",
		"budget { max_depth: 1 }", "budget { max_items: 1 }", "breaker { disabled: true }", "breaker { consecutive_failures: 1 }",
	} {
		p, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: rule}))
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := seen[p.Hash()]; twice {
			t.Errorf("%q and %q have one hash", rule, other)
		}
		seen[p.Hash()] = rule
	}
	onService, err := policy.Compile(nil, shop(t, "rate_limits { requests: 1 per { seconds: 1 } }", call{name: "Buy"}))
	if err != nil || seen[onService.Hash()] != "" {
		t.Errorf("a limit of the service and one of its only method have one hash (%v)", err)
	}
}
