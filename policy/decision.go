package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// Subject is who asks.
type Subject struct {
	// ID is the caller's verified SPIFFE ID. The zero ID is nobody, and is denied.
	ID spiffeid.ID
	// Serial is the serial number of the caller's X509-SVID in lower-case hexadecimal without leading zeros.
	Serial string
}

// Reason says why a decision is what it is.
type Reason uint8

// The reasons. The zero value is a denial, and only ReasonCallerAllowed is not.
const (
	// ReasonNoRule: the method has no rule, or is not known at all.
	ReasonNoRule Reason = iota
	// ReasonNoIdentity: nobody knows who calls.
	ReasonNoIdentity
	// ReasonDenyList: the policy file's deny list names the caller.
	ReasonDenyList
	// ReasonCallerDenied: denied_callers of the method's rule names the caller.
	ReasonCallerDenied
	// ReasonMethodClosed: the rule says nobody.
	ReasonMethodClosed
	// ReasonCallerNotListed: the rule's callers do not name the caller.
	ReasonCallerNotListed
	// ReasonCallerAllowed: the rule's callers name the caller.
	ReasonCallerAllowed
)

// String returns the reason as records and spans have it.
func (r Reason) String() string {
	names := [...]string{
		"no-rule", "no-identity", "deny-list", "caller-denied", "method-closed", "caller-not-listed", "caller-allowed",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// Decision is the answer, with the rule that made it. Decisions are made when a policy is compiled and shared by all calls;
// they must not be modified.
type Decision struct {
	// Allowed is true for ReasonCallerAllowed alone.
	Allowed bool
	// Reason is why.
	Reason Reason
	// Rule names what decided: the file, the rule and the entry in it. It is for records, never for callers.
	Rule string
}

var noRule = &Decision{Reason: ReasonNoRule}

// Decide decides whether s may call the method of this rule: the deny list is asked first, then denied_callers, then nobody,
// then callers, of which SPIFFE IDs come before patterns and an earlier entry before a later one. A nil Rule denies.
//
// It does not allocate and is safe for concurrent use.
func (r *Rule) Decide(s Subject) *Decision {
	if r == nil {
		return noRule
	}
	if s.ID.IsZero() {
		return r.noIdentity
	}
	if d := r.denyList.find(s); d != nil {
		return d
	}
	if d := r.denied.find(s.ID); d != nil {
		return d
	}
	if d := r.callers.find(s.ID); d != nil {
		return d
	}
	return r.otherwise
}
