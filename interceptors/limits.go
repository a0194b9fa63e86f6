package interceptors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"
)

// KeyFunction returns what a rate limit counts a call, or a message of it, by. An error refuses the call.
type KeyFunction func(ctx context.Context, caller *identity.Caller, method string, msg proto.Message) (string, error)

// limits are the rate limits of a server: the counters, and which of them hold where in a call.
type limits struct {
	rules    map[*policy.Rule]*limitPlan
	store    ratelimit.Store
	metrics  limitMetrics
	events   *recorder
	observed metric.Registration
	held     sync.Pool // of *held

	down     atomic.Bool
	failedAt atomic.Int64 // the last failure of the store, in Unix nanoseconds
}

// limitPlan says when the limits of one rule are asked.
type limitPlan struct {
	admit    []*limit // before anything is read: kept here, and looking into no message
	begin    []*limit // kept by the store, and looking into no message
	messages []*limit // on the one message of a unary call, or on each of a stream
	// currencies are, for each cost field that has limits in certain currencies, these.
	currencies []currencies
}

// currencies are those in which there are limits on an amount.
type currencies struct {
	cost, field string
	read        func(proto.Message) (string, bool)
	known       []string
}

// limit is one rate limit of one method, and who counts it.
type limit struct {
	*policy.RateLimit

	local   *ratelimit.Limiter // nil where only the store counts
	shared  *ratelimit.Shared  // nil where only this process counts
	keyFunc KeyFunction
	subject string // what it counts by, as refused callers are told
	label   metric.MeasurementOption
	// callerAlone says that it counts by the caller and nothing else, as most limits do.
	callerAlone bool
}

func newLimits(p *policy.Policy, cfg serverConfig, e *recorder) (*limits, error) {
	meter := cfg.telemetry.MeterProvider.Meter(scope)
	l := &limits{rules: make(map[*policy.Rule]*limitPlan), store: cfg.store, events: e}
	l.held.New = func() any { return new(held) }
	var err error
	if l.metrics, err = newLimitMetrics(meter); err != nil {
		return nil, err
	}
	counters, wrong := make(map[string]*limit), make(map[string]bool)
	var errs []error
	for r := range p.Rules() {
		if len(r.RateLimits()) == 0 {
			continue
		}
		plan := &limitPlan{}
		for _, rl := range r.RateLimits() {
			one, err := l.counter(counters, rl, cfg)
			if err != nil {
				if !wrong[rl.Name] { // A service's limit is wrong once, not once a method.
					errs = append(errs, fmt.Errorf("%s: %w", rl.At, err))
				}
				wrong[rl.Name] = true
				continue
			}
			plan.add(one, r)
		}
		l.rules[r] = plan
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, l.observe(meter, counters)
}

// counter returns the limit, with the counter that all methods of a service share which share its declaration.
func (l *limits) counter(counters map[string]*limit, rl *policy.RateLimit, cfg serverConfig) (*limit, error) {
	one := &limit{RateLimit: rl, subject: subjectOf(rl), label: metric.WithAttributes(attribute.String("grpcguard.limit", rl.Name))}
	one.callerAlone = !rl.NeedsMessage() && len(rl.Keys) == 1 && rl.Keys[0] == policy.LimitByCaller
	if rl.KeyFunction != "" {
		if one.keyFunc = cfg.keyFunctions[rl.KeyFunction]; one.keyFunc == nil {
			return nil, fmt.Errorf("key_function %q is not registered; see interceptors.WithKeyFunction", rl.KeyFunction)
		}
	}
	if rl.Shared && cfg.store == nil {
		return nil, errors.New("scope: SCOPE_SHARED needs a store; see interceptors.WithRateLimitStore")
	}
	if first := counters[rl.Name]; first != nil {
		one.local, one.shared = first.local, first.shared
		return one, nil
	}
	counters[rl.Name] = one
	numbers := ratelimit.Limit{Permits: rl.Permits, Per: rl.Per, Burst: rl.Burst}
	var err error
	if cfg.store != nil && !rl.Process {
		one.shared = &ratelimit.Shared{Limit: numbers, Name: rl.Name, Lease: rl.Lease}
		if err = cfg.store.Check(one.shared); err != nil {
			return nil, err
		}
	}
	if one.shared == nil || rl.LocalOnFailure {
		one.local, err = ratelimit.New(numbers)
	}
	return one, err
}

func (p *limitPlan) add(l *limit, r *policy.Rule) {
	message := l.NeedsMessage()
	switch {
	case message:
	case l.shared != nil:
		p.begin = append(p.begin, l)
	default:
		p.admit = append(p.admit, l)
	}
	if message || l.PerMessage && r.ClientStreams() {
		p.messages = append(p.messages, l)
	}
	if l.Currency == "" {
		return
	}
	field := l.CurrencyField.String()
	i := slices.IndexFunc(p.currencies, func(c currencies) bool { return c.cost == l.CostField.String() && c.field == field })
	if i < 0 {
		i = len(p.currencies)
		p.currencies = append(p.currencies, currencies{cost: l.CostField.String(), field: field, read: l.currency})
	}
	p.currencies[i].known = append(p.currencies[i].known, l.Currency)
}

// subjectOf names the kind of a limit's key for callers.
func subjectOf(l *policy.RateLimit) string {
	switch {
	case l.NeedsMessage():
		return "request"
	case slices.Contains(l.Keys, policy.LimitByCaller), slices.Contains(l.Keys, policy.LimitByAddress):
		return "caller"
	case slices.Contains(l.Keys, policy.LimitByTrustDomain):
		return "trust domain"
	}
	return "method"
}

// observe has the limits' room for keys measured whenever metrics are collected.
func (l *limits) observe(meter metric.Meter, counters map[string]*limit) error {
	slots, err := meter.Int64ObservableGauge("grpcguard.rate_limit.slots", metric.WithDescription("keys there is room for, by limit"))
	if err != nil {
		return err
	}
	crowded, err := meter.Int64ObservableCounter("grpcguard.rate_limit.crowded", metric.WithDescription("decisions on keys that found no room of their own, by limit"))
	if err != nil {
		return err
	}
	l.observed, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, c := range counters {
			if c.local != nil {
				stats := c.local.Stats()
				o.ObserveInt64(slots, int64(stats.Slots), c.label)
				o.ObserveInt64(crowded, int64(stats.Shared), c.label)
			}
		}
		return nil
	}, slots, crowded)
	return err
}

func (l *limits) close() error {
	if l.observed == nil {
		return nil
	}
	return l.observed.Unregister()
}

// calm is how long the store must have answered without a failure to count as back.
const calm = time.Second

func (l *limits) storeFailed(ctx context.Context, err error, asked int) {
	now := time.Now()
	l.metrics.failures.Add(ctx, int64(asked))
	l.failedAt.Store(now.UnixNano())
	if l.down.CompareAndSwap(false, true) {
		l.events.tell(ctx, now, audit.EventStoreDown, "rate limits", err.Error())
	}
}

func (l *limits) storeAnswered(ctx context.Context) {
	if !l.down.Load() {
		return
	}
	if now := time.Now(); now.UnixNano()-l.failedAt.Load() >= int64(calm) && l.down.CompareAndSwap(true, false) {
		l.events.tell(ctx, now, audit.EventStoreUp, "rate limits", "")
	}
}
