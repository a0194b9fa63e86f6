package interceptors

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/breaker"
	"github.com/grpcguard/grpcguard/interceptors/fault"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"
)

// ServerOption configures [NewServer].
type ServerOption interface{ server(c *serverConfig) error }

// ClientOption configures [NewClient].
type ClientOption interface{ client(c *clientConfig) error }

// Option configures either.
type Option interface {
	ServerOption
	ClientOption
}

// config is what both sides can be told.
type config struct {
	telemetry   Telemetry
	onSinkError func(error)
	faults      *fault.Injector
	recordClass audit.Class
	denials     int
}

type serverConfig struct {
	config

	validateResponses bool
	store             ratelimit.Store
	keyFunctions      map[string]KeyFunction
	redactor          *audit.Redactor
}

type clientConfig struct {
	config

	validateRequests bool
	fallbacks        map[string]Fallback
	sharer           breaker.Sharer
}

type bothOption func(*config) error

func (f bothOption) server(c *serverConfig) error { return f(&c.config) }
func (f bothOption) client(c *clientConfig) error { return f(&c.config) }

type serverOption func(*serverConfig) error

func (f serverOption) server(c *serverConfig) error { return f(c) }

type clientOption func(*clientConfig) error

func (f clientOption) client(c *clientConfig) error { return f(c) }

func newServerConfig(opts []ServerOption) (serverConfig, error) {
	c := serverConfig{config: config{onSinkError: otel.Handle, denials: defaultDenials}}
	for i, opt := range opts {
		if opt == nil {
			return c, fmt.Errorf("interceptors: server option %d is nil", i)
		}
		if err := opt.server(&c); err != nil {
			return c, fmt.Errorf("interceptors: %w", err)
		}
	}
	c.telemetry = c.telemetry.settled()
	return c, nil
}

func newClientConfig(opts []ClientOption) (clientConfig, error) {
	c := clientConfig{config: config{onSinkError: otel.Handle, denials: defaultDenials}}
	for i, opt := range opts {
		if opt == nil {
			return c, fmt.Errorf("interceptors: client option %d is nil", i)
		}
		if err := opt.client(&c); err != nil {
			return c, fmt.Errorf("interceptors: %w", err)
		}
	}
	c.telemetry = c.telemetry.settled()
	return c, nil
}

// WithSinkErrorHandler has f called with every error of the sink. What a handler answers is replaced by Unavailable besides.
// It is called from several goroutines. Default: otel.Handle.
func WithSinkErrorHandler(f func(error)) Option {
	return bothOption(func(c *config) error {
		if f == nil {
			return errors.New("WithSinkErrorHandler: the handler is nil")
		}
		c.onSinkError = func(err error) {
			// On some of the goroutines that it is called from, a panic would end the process, and there is nobody left to tell.
			defer func() { _ = recover() }()
			f(err)
		}
		return nil
	})
}

// WithRecordClass says how the records of calls are kept whose rule has no record_class. Default: audit.Durable, no call that was let
// in is answered before its record is kept. Transactions are always durable.
func WithRecordClass(class audit.Class) Option {
	return bothOption(func(c *config) error {
		if class != audit.Durable && class != audit.BestEffort {
			return fmt.Errorf("WithRecordClass: there is no class %d", class)
		}
		c.recordClass = class
		return nil
	})
}

// WithDenialRecords says how many calls of one caller that are refused alike, to one method and for one reason, have records of their
// own in a second. Those beyond are counted, and the exact count is a record of its own, a second later. Default: 100.
func WithDenialRecords(perSecond int) Option {
	return bothOption(func(c *config) error {
		if perSecond < 1 {
			return fmt.Errorf("WithDenialRecords: %d is less than 1", perSecond)
		}
		c.denials = perSecond
		return nil
	})
}

// WithResponseValidation has the messages that the server sends validated too; one that is invalid ends its call with Internal
// and does not leave. Default: only received messages are validated.
func WithResponseValidation() ServerOption {
	return serverOption(func(c *serverConfig) error { c.validateResponses = true; return nil })
}

// WithRequestValidation has the messages that the client sends validated before they leave; one that is invalid ends its call
// with InvalidArgument, without bothering the server. Default: only responses are validated.
func WithRequestValidation() ClientOption {
	return clientOption(func(c *clientConfig) error { c.validateRequests = true; return nil })
}

// WithFaults has calls fail as the injector says: on a server behind all controls, as if the handler had failed; on a client below
// all of them, as if the callee had. A fault's Caller is compared with the caller's SPIFFE ID, or with the callee's name. It is
// for tests of what others make of it; without this option no call can be made to fail, and no caller can ask for it.
func WithFaults(i *fault.Injector) Option {
	return bothOption(func(c *config) error {
		if i == nil {
			return errors.New("WithFaults: the injector is nil")
		}
		c.faults = i
		return nil
	})
}

// WithRateLimitStore has rate limits kept by a store that several processes share, but for those whose scope is SCOPE_PROCESS.
// Default: each process keeps its own, and a rule with SCOPE_SHARED is an error.
func WithRateLimitStore(store ratelimit.Store) ServerOption {
	return serverOption(func(c *serverConfig) error {
		if store == nil {
			return errors.New("WithRateLimitStore: the store is nil")
		}
		c.store = store
		return nil
	})
}

// WithSensitiveKey has values of sensitive fields appear in records as HMACs under key, which has 32 random bytes or more: whoever has
// the key can find the records of a value, and nobody can read one. Without it a server does not start whose policy records a
// sensitive field.
func WithSensitiveKey(key []byte) ServerOption {
	return serverOption(func(c *serverConfig) error {
		r, err := audit.NewRedactor(key)
		if err != nil {
			return fmt.Errorf("WithSensitiveKey: %w", err)
		}
		c.redactor = r
		return nil
	})
}

// redacts checks that there is a key where the policy needs one.
func (c *serverConfig) redacts(p *policy.Policy) error {
	if c.redactor != nil {
		return nil
	}
	for r := range p.Rules() {
		if t := r.Transaction(); t != nil && t.Sensitive() {
			return fmt.Errorf("%s records a sensitive field: say WithSensitiveKey", t.At)
		}
	}
	return nil
}

// WithKeyFunction registers f under the name that rate limits have as key_function.
func WithKeyFunction(name string, f KeyFunction) ServerOption {
	return serverOption(func(c *serverConfig) error {
		switch {
		case f == nil:
			return fmt.Errorf("WithKeyFunction: %q is nil", name)
		case c.keyFunctions[name] != nil:
			return fmt.Errorf("WithKeyFunction: %q is registered twice", name)
		}
		if c.keyFunctions == nil {
			c.keyFunctions = make(map[string]KeyFunction)
		}
		c.keyFunctions[name] = f
		return nil
	})
}

// WithFallback has f answer calls of a full method while the method's breaker is open. A method of another kind of call than f,
// or that the policy does not know, is an error. Default: such calls fail with Unavailable.
func WithFallback(method string, f Fallback) ClientOption {
	return clientOption(func(c *clientConfig) error {
		switch {
		case f.unary == nil && f.stream == nil:
			return fmt.Errorf("WithFallback: %s: the fallback is empty", method)
		case c.fallbacks[method].unary != nil || c.fallbacks[method].stream != nil:
			return fmt.Errorf("WithFallback: %s has two", method)
		}
		if c.fallbacks == nil {
			c.fallbacks = make(map[string]Fallback)
		}
		c.fallbacks[method] = f
		return nil
	})
}

// WithBreakerSharing has this process's breakers open when one of the same callee and method opens in another, and tells the
// others of its own. Default: each process finds out for itself.
func WithBreakerSharing(s breaker.Sharer) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if s == nil {
			return errors.New("WithBreakerSharing: the sharer is nil")
		}
		c.sharer = s
		return nil
	})
}
