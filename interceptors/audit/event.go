package audit

// EventName says what happened beside calls.
type EventName string

// The events.
const (
	// EventStarted and EventStopped: a guard was made, and closed. The subject is its version of the policy.
	EventStarted EventName = "started"
	EventStopped EventName = "stopped"
	// EventPolicyChanged: a guard started with another policy than the one before it. The subject is the hash of the policy in force,
	// and the detail has that of the other.
	EventPolicyChanged EventName = "policy-changed"
	// EventHandshakeRefused: a connection was refused in its handshake.
	EventHandshakeRefused EventName = "handshake-refused"
	// EventBreakerOpen, EventBreakerHalfOpen and EventBreakerClosed: a circuit breaker changed its state. The subject is the callee
	// and the method.
	EventBreakerOpen     EventName = "breaker-open"
	EventBreakerHalfOpen EventName = "breaker-half-open"
	EventBreakerClosed   EventName = "breaker-closed"
	// EventStoreDown and EventStoreUp: the store of rate limits that processes share stopped answering, and answered again.
	EventStoreDown EventName = "limit-store-down"
	EventStoreUp   EventName = "limit-store-up"
	// EventDropped: records were dropped, since their sink was behind. The count says how many.
	EventDropped EventName = "records-dropped"
	// EventJournalTrouble: a journal had no room, or could not reach its witness. The detail says what.
	EventJournalTrouble EventName = "journal-trouble"
)
