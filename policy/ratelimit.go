package policy

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// LimitKey is one of the things that a rate limit counts by, beside request fields and a key function.
type LimitKey uint8

// The keys.
const (
	LimitByCaller LimitKey = 1 + iota
	LimitByMethod
	LimitByTrustDomain
	LimitByAddress
)

var limitKeys = map[grpcguardv1.RateLimit_Key]LimitKey{
	grpcguardv1.RateLimit_KEY_CALLER:       LimitByCaller,
	grpcguardv1.RateLimit_KEY_METHOD:       LimitByMethod,
	grpcguardv1.RateLimit_KEY_TRUST_DOMAIN: LimitByTrustDomain,
	grpcguardv1.RateLimit_KEY_ADDRESS:      LimitByAddress,
}

// RateLimit is one rate limit of one method. Limits that a service declares for several methods have the same Name in all of
// them, and are one limit. It must not be modified.
type RateLimit struct {
	// Name identifies the limit, in this process and in others that run the same policy.
	Name string
	// At says where the limit is written; it is for records.
	At string

	// Permits come back in one Per, and at most Burst may be taken at once. Where the cost is an amount in the units of a
	// currency, a permit is 1/Scale of a unit.
	Permits, Burst uint64
	Per            time.Duration
	Scale          uint64

	// Keys, KeyFields and KeyFunction are what is counted by.
	Keys        []LimitKey
	KeyFields   []Path
	KeyFunction string

	// Cost is what a call costs, unless CostField is set.
	Cost uint64
	// CostField holds the cost. It is an integer or a google.type.Money.
	CostField Path
	// CostIsMoney says that CostField is a google.type.Money.
	CostIsMoney bool
	// Currency is the only one that the limit is for; empty: any.
	Currency string
	// CurrencyField holds the currency of a CostField that is an integer; the zero Path where there is none.
	CurrencyField Path

	PerMessage bool
	// Process and Shared say that the scope is declared to be one or the other; neither: as the program has it.
	Process, Shared bool
	// LocalOnFailure has the limit counted in this process when the shared store fails; otherwise the call is refused.
	LocalOnFailure bool
	StoreTimeout   time.Duration
	Lease          uint64
}

// NeedsMessage reports whether the limit can only be decided on a request.
func (l *RateLimit) NeedsMessage() bool {
	return len(l.KeyFields) > 0 || l.KeyFunction != "" || !l.CostField.IsZero()
}

// Bounds of what can be counted exactly: see package ratelimit.
const (
	maxPermitsPerSecond       = 8_000_000_000
	maxScaledPermitsPerSecond = 8_000_000
	maxScale                  = 1_000_000_000 // the nanos of a google.type.Money
	maxRefill                 = 2 * 365 * 24 * time.Hour
)

// limits compiles the rate limits of a method's merged rule. Their places, and so their errors, are shared by methods that
// share a service's declaration; what is wrong with one is reported once.
func (c *compiler) limits(d protoreflect.MethodDescriptor, m merged) []*RateLimit {
	if m.limits == nil {
		return nil
	}
	owner := string(d.Parent().FullName())
	if m.limits.ofMethod {
		owner = fullMethod(d)
	}
	var all []*RateLimit
	for i, l := range m.limits.rule.GetRateLimits() {
		at := func(path ...any) place { return m.limits.at(slices.Concat([]any{"rate_limits", i}, path)...) }
		one := &RateLimit{
			Name: owner + "#" + strconv.Itoa(i), At: at().String(),
			Permits: l.GetRequests(), Burst: or(l.GetBurst(), l.GetRequests()), Per: l.GetPer().AsDuration(), Scale: 1,
			KeyFunction: l.GetKeyFunction(), Cost: or(l.GetPermits(), 1), Currency: l.GetCurrency(), PerMessage: l.GetPerMessage(),
			Process:        l.GetScope() == grpcguardv1.RateLimit_SCOPE_PROCESS,
			Shared:         l.GetScope() == grpcguardv1.RateLimit_SCOPE_SHARED,
			LocalOnFailure: l.GetOnStoreFailure() == grpcguardv1.RateLimit_STORE_FAILURE_LOCAL,
			StoreTimeout:   or(l.GetStoreTimeout().AsDuration(), 50*time.Millisecond),
			Lease:          l.GetLease(),
		}
		c.limitKeys(one, l, d, at)
		c.limitCost(one, l, d, at)
		c.limitNumbers(one, l, at)
		if m.limits.ofMethod && one.PerMessage && !d.IsStreamingClient() {
			c.found.addf(at("per_message"), "does nothing: the caller sends one message")
		}
		if one.NeedsMessage() && d.IsStreamingClient() && !one.PerMessage {
			c.found.addf(at(), "%s opens with no message, so a limit that looks into messages needs per_message: true", fullMethod(d))
		}
		all = append(all, one)
	}
	return all
}

func (c *compiler) limitKeys(one *RateLimit, l *grpcguardv1.RateLimit, d protoreflect.MethodDescriptor, at func(...any) place) {
	for i, key := range l.GetKey() {
		if k := limitKeys[key]; k != 0 {
			one.Keys = append(one.Keys, k)
		} else if key != grpcguardv1.RateLimit_KEY_UNSPECIFIED { // which the schema's own rules refuse
			c.found.addf(at("key", i), "%s is "+notEnforced, key)
		}
	}
	for i, text := range l.GetKeyFields() {
		p, err := parsePath(d.Input(), text)
		if err != nil {
			c.found.addf(at("key_fields", i), "%v", err)
			continue
		}
		switch p.Field().Kind() {
		case protoreflect.MessageKind, protoreflect.GroupKind:
			c.found.addf(at("key_fields", i), "%q is a message; name one of its fields", text)
		case protoreflect.FloatKind, protoreflect.DoubleKind:
			c.found.addf(at("key_fields", i), "%q is a floating-point number, which is no key", text)
		default:
			// One account would have two budgets, one as text and one as a number.
			name := one.Name + " " + text
			if first := c.kinds[name]; first != nil && first.Kind() != p.Field().Kind() {
				c.found.addf(at("key_fields", i), "%s is a %s, and %s a %s: one limit needs one kind of key", p.Field().FullName(), p.Field().Kind(), first.FullName(), first.Kind())
			} else {
				c.kinds[name] = p.Field()
			}
		}
		one.KeyFields = append(one.KeyFields, p)
	}
	if len(one.Keys) == 0 && len(one.KeyFields) == 0 && one.KeyFunction == "" {
		one.Keys = []LimitKey{LimitByCaller}
	}
}

func (c *compiler) limitCost(one *RateLimit, l *grpcguardv1.RateLimit, d protoreflect.MethodDescriptor, at func(...any) place) {
	if text := l.GetCostField(); text != "" {
		p, err := parsePath(d.Input(), text)
		switch {
		case err != nil:
			c.found.addf(at("cost_field"), "%v", err)
		case isMoney(p.Field()):
			one.CostIsMoney = true
		case !isInteger(p.Field()):
			c.found.addf(at("cost_field"), "%q is neither an integer nor a google.type.Money", text)
		}
		one.CostField = p
	}
	if text := l.GetCurrencyField(); text != "" {
		p, err := parsePath(d.Input(), text)
		if err != nil {
			c.found.addf(at("currency_field"), "%v", err)
		} else if p.Field().Kind() != protoreflect.StringKind {
			c.found.addf(at("currency_field"), "%q is not a string", text)
		}
		one.CurrencyField = p
	}
	hasCurrency, hasField := one.Currency != "", l.GetCurrencyField() != ""
	switch {
	case one.CostIsMoney && !hasCurrency:
		c.found.addf(at("currency"), "a limit on a google.type.Money is a sum in one currency: say which")
	case one.CostIsMoney && hasField:
		c.found.addf(at("currency_field"), "a google.type.Money holds its currency itself")
	case !one.CostIsMoney && hasCurrency != hasField:
		c.found.addf(at("currency"), "currency and currency_field belong together")
	case hasField && l.GetCostField() == "":
		c.found.addf(at("currency_field"), "does nothing without cost_field")
	}
}

// limitNumbers checks that the limit can be counted exactly, and that a call can ever pass it.
func (c *compiler) limitNumbers(one *RateLimit, l *grpcguardv1.RateLimit, at func(...any) place) {
	if one.Permits == 0 || one.Per <= 0 {
		return // The schema's own rules say so.
	}
	if one.CostIsMoney {
		one.scale()
	}
	switch seconds := one.Per.Seconds(); {
	case float64(one.Permits)/seconds > maxPermitsPerSecond:
		c.found.addf(at("requests"), "%d in %v are more than %d a second, which cannot be counted", l.GetRequests(), one.Per, int64(maxPermitsPerSecond))
	case float64(one.Burst)/float64(one.Permits)*seconds > maxRefill.Seconds():
		c.found.addf(at("burst"), "takes longer than two years to come back")
	}
	if one.CostField.IsZero() && one.Cost > one.Burst {
		c.found.addf(at("permits"), "a call costs %d permits, and there are never more than %d", one.Cost, one.Burst)
	}
	if one.Lease > one.Burst {
		c.found.addf(at("lease"), "there are never more than %d permits to take", or(l.GetBurst(), l.GetRequests()))
	}
	if one.Process && (one.Lease > 0 || l.GetStoreTimeout() != nil || l.GetOnStoreFailure() != 0) {
		c.found.addf(at("scope"), "lease, store_timeout and on_store_failure do nothing where each process counts for itself")
	}
}

// scale chooses the fraction of a currency's unit that is counted in: as fine as the numbers allow, down to the nanos that a
// google.type.Money has. What is finer counts up.
func (l *RateLimit) scale() {
	for next := l.Scale * 10; next <= maxScale; next *= 10 {
		over, permits := bits.Mul64(l.Permits, 10)
		overBurst, burst := bits.Mul64(l.Burst, 10)
		overLease, lease := bits.Mul64(l.Lease, 10)
		if over|overBurst|overLease != 0 || burst > math.MaxInt64>>10 || float64(permits)/l.Per.Seconds() > maxScaledPermitsPerSecond {
			return
		}
		l.Permits, l.Burst, l.Lease, l.Scale = permits, burst, lease, next
	}
}

func isMoney(f protoreflect.FieldDescriptor) bool {
	m := f.Message()
	if m == nil || m.FullName() != "google.type.Money" {
		return false
	}
	units, nanos, currency := m.Fields().ByName("units"), m.Fields().ByName("nanos"), m.Fields().ByName("currency_code")
	return units != nil && units.Kind() == protoreflect.Int64Kind && nanos != nil && nanos.Kind() == protoreflect.Int32Kind &&
		currency != nil && currency.Kind() == protoreflect.StringKind
}

func isInteger(f protoreflect.FieldDescriptor) bool {
	switch f.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Int64Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed64Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return true
	default:
		return false
	}
}
