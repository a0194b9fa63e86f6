package interceptors

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"
)

// limitStage asks the rate limits that need to see no message. Those kept in this process are asked in the tap, so that who calls
// too often cannot make the server read anything.
type limitStage struct{ limits *limits }

func (limitStage) Name() string { return "limits" }

// Applies implements [chain.Scoped].
func (s limitStage) Applies(rule *policy.Rule) bool {
	plan := s.limits.rules[rule]
	return plan != nil && len(plan.admit)+len(plan.begin) > 0
}

func (s limitStage) Admit(c *chain.Call) *chain.Refusal {
	if plan := s.limits.rules[c.Rule]; plan != nil && len(plan.admit) > 0 {
		return s.limits.takeLocal(context.Background(), c, plan.admit, nil, c.Start)
	}
	return nil
}

func (s limitStage) Begin(ctx context.Context, c *chain.Call) *chain.Refusal {
	if plan := s.limits.rules[c.Rule]; plan != nil && len(plan.begin) > 0 {
		r := s.limits.take(ctx, c, plan.begin, nil, time.Now())
		if r != nil {
			s.limits.giveBack(ctx, c, plan.admit)
		}
		return r
	}
	return nil
}

// messageLimitStage asks the rate limits that look into messages, or count them. It comes after validation: a message that is
// refused for what it is takes nothing from the account it names.
type messageLimitStage struct{ limits *limits }

func (messageLimitStage) Name() string { return limitStage{}.Name() }

// Applies implements [chain.Scoped].
func (s messageLimitStage) Applies(rule *policy.Rule) bool {
	plan := s.limits.rules[rule]
	return plan != nil && len(plan.messages) > 0
}

func (s messageLimitStage) Receive(ctx context.Context, c *chain.Call, msg chain.Message) *chain.Refusal {
	plan := s.limits.rules[c.Rule]
	if plan == nil || len(plan.messages) == 0 {
		return nil
	}
	m := msg.Proto
	if m == nil {
		return chain.RefuseWith(codes.Internal, "internal error", "unreadable-message", fmt.Sprintf("a %T is not a protobuf message and cannot be limited", msg.Value))
	}
	for i := range plan.currencies {
		if r := plan.currencies[i].check(m); r != nil {
			return r
		}
	}
	// The call may have been opened long ago. To count its message as of then would let calls that were opened early and sent late
	// through all at once.
	return s.limits.take(ctx, c, plan.messages, m, time.Now())
}

// check refuses an amount in a currency that no limit is for: it would move money past all of them.
func (c *currencies) check(m proto.Message) *chain.Refusal {
	if currency, ok := c.read(m); ok && slices.Contains(c.known, currency) {
		return nil
	}
	return invalidField(c.cost, "its currency is not accepted", "currency-not-limited")
}

// invalidField refuses a message for one of its fields.
func invalidField(field, description, reason string) *chain.Refusal {
	return theirFaultFor(reason, field+": "+description, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: field, Description: description, Reason: reason},
	}})
}

func theirFaultFor(reason, detail string, details ...protoadapt.MessageV1) *chain.Refusal {
	return chain.RefuseWith(codes.InvalidArgument, "the message is invalid", reason, detail,
		append([]protoadapt.MessageV1{errorInfo("MESSAGE_INVALID")}, details...)...)
}

// take takes from all limits or from none.
func (l *limits) take(ctx context.Context, c *chain.Call, all []*limit, m proto.Message, now time.Time) *chain.Refusal {
	if l.store == nil {
		return l.takeLocal(ctx, c, all, m, now)
	}
	var demands []ratelimit.Demand
	var asked, locals []*limit
	for _, one := range all {
		if one.shared == nil {
			locals = append(locals, one)
			continue
		}
		cost, applies, r := one.cost(m)
		if r != nil {
			return r
		}
		if !applies {
			continue
		}
		key, r := one.key(ctx, nil, c, m)
		if r != nil {
			return r
		}
		demands, asked = append(demands, ratelimit.Demand{Limit: one.shared, Key: key, Cost: cost}), append(asked, one)
	}
	var held held
	if r := held.take(ctx, l, c, locals, m, now); r != nil || len(demands) == 0 {
		return r
	}
	if r := l.takeShared(ctx, c, asked, demands, m, now); r != nil {
		held.giveBack(now)
		return r
	}
	return nil
}

// held is what a call has taken of limits in this process, in case another limit refuses it. It is small, since it is on the stack.
type held struct {
	n, used int
	all     [maxLimits]taken
	room    [256]byte
	long    []ratelimit.Key // keys that did not fit into room
	caller  string          // the key of limits that count by the caller alone
}

// maxLimits is how many limits a rule can have, by the schema.
const maxLimits = 16

// taken is what was taken of one limit. The key is a part of held's room, or one of held's long ones where it did not fit, or the caller
// where that is all; a slice of the room here would make the compiler give each call's held to the heap.
type taken struct {
	from     *limit
	cost     uint64
	start, n uint16
	long     uint16 // the number of the long key, from 1; 0: it is in room
}

// takeLocal takes from limits that are kept in this process, or that are to be for now. What is held is not on the stack here: the reader
// of each connection, which runs the tap, would keep a stack of twice the size for as long as the connection is open.
func (l *limits) takeLocal(ctx context.Context, c *chain.Call, all []*limit, m proto.Message, now time.Time) *chain.Refusal {
	if len(all) == 1 {
		return l.takeOne(ctx, c, all[0], m, now) // as most rules have, and there is nothing to give back
	}
	h := l.held.Get().(*held) //nolint:forcetypeassert // It holds nothing else.
	r := h.take(ctx, l, c, all, m, now)
	*h = held{}
	l.held.Put(h)
	return r
}

// takeOne takes from the only limit there is.
func (l *limits) takeOne(ctx context.Context, c *chain.Call, one *limit, m proto.Message, now time.Time) *chain.Refusal {
	cost, applies, r := one.cost(m)
	if r != nil || !applies {
		return r
	}
	var room [128]byte
	key, r := one.key(ctx, room[:0], c, m)
	if r != nil {
		return r
	}
	if result := one.local.Take(now, key, cost); !result.Allowed {
		return l.refuse(ctx, one, result)
	}
	return nil
}

// take takes from all limits, or gives back what it took.
func (h *held) take(ctx context.Context, l *limits, c *chain.Call, all []*limit, m proto.Message, now time.Time) *chain.Refusal {
	for _, one := range all {
		cost, applies, r := one.cost(m)
		if r == nil && !applies {
			continue
		}
		var key ratelimit.Key
		if r == nil {
			key, r = one.key(ctx, h.room[h.used:h.used], c, m)
		}
		if r == nil {
			if result := one.local.Take(now, key, cost); !result.Allowed {
				r = l.refuse(ctx, one, result)
			}
		}
		if r != nil {
			h.giveBack(now)
			return r
		}
		t := taken{from: one, cost: cost}
		switch {
		case one.callerAlone:
			h.caller = c.Caller.ID().String()
		case h.used+len(key) > len(h.room):
			h.long = append(h.long, slices.Clone(key))
			t.long = uint16(len(h.long))
		default:
			t.start, t.n = uint16(h.used), uint16(len(key))
			h.used += len(key)
		}
		h.all[h.n] = t
		h.n++
	}
	return nil
}

func (h *held) giveBack(now time.Time) {
	for i := range h.n {
		t := &h.all[i]
		key := ratelimit.Key(h.room[t.start : t.start+t.n])
		switch {
		case t.from.callerAlone:
			key = ratelimit.TextKey(h.caller)
		case t.long > 0:
			key = h.long[t.long-1]
		}
		t.from.local.Return(now, key, t.cost)
	}
}

// giveBack returns what Admit took, for a call that goes no further. Keys without a message are the same each time.
func (l *limits) giveBack(ctx context.Context, c *chain.Call, all []*limit) {
	for _, one := range all {
		var room [192]byte
		if key, r := one.key(ctx, room[:0], c, nil); r == nil {
			one.local.Return(c.Start, key, one.Cost)
		}
	}
}

// takeShared asks the store, once for all demands. Where it does not answer, each limit does what it says for that case.
func (l *limits) takeShared(ctx context.Context, c *chain.Call, asked []*limit, demands []ratelimit.Demand, m proto.Message, now time.Time) *chain.Refusal {
	timeout := asked[0].StoreTimeout
	for _, one := range asked {
		timeout = min(timeout, one.StoreTimeout)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, refused, err := l.store.Take(bounded, demands)
	switch {
	case err == nil:
		l.storeAnswered(ctx)
		if result.Allowed {
			return nil
		}
		return l.refuse(ctx, asked[refused], result)
	case ctx.Err() != nil:
		// The caller left, or had no time to begin with. That says nothing of the store, and there is nobody to answer.
		return chain.RefuseWith(status.FromContextError(ctx.Err()).Code(), "the call has ended", "call-over", err.Error())
	}
	l.storeFailed(ctx, err, len(asked))
	for _, one := range asked {
		if !one.LocalOnFailure {
			return limitRefusal(one, "limit-store-failed", one.At+": "+err.Error(), time.Second)
		}
	}
	return l.takeLocal(ctx, c, asked, m, now)
}

func (l *limits) refuse(ctx context.Context, one *limit, result ratelimit.Result) *chain.Refusal {
	l.metrics.refused.Add(ctx, 1, one.label)
	if result.RetryAfter == ratelimit.Never {
		return limitRefusal(one, "over-limit", one.At, 0)
	}
	return limitRefusal(one, "rate-limited", one.At, result.RetryAfter)
}

// limitRefusal tells the caller what kind of limit it met and when to come again; 0: not at all with this request.
func limitRefusal(one *limit, reason, detail string, retry time.Duration) *chain.Refusal {
	details := []protoadapt.MessageV1{errorInfo("RATE_LIMITED"), quota(one.subject, "rate limit")}
	if retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(one.retryDelay(retry))})
	}
	return chain.RefuseWith(codes.ResourceExhausted, "too many requests", reason, detail, details...)
}

// retryDelay is what a caller is told to wait. Where the limit is an account's and not the caller's own, the exact time would tell how much
// others have used of it: it is rounded up to a sixteenth of the period.
func (one *limit) retryDelay(d time.Duration) time.Duration {
	if !one.NeedsMessage() || slices.Contains(one.Keys, policy.LimitByCaller) {
		return roundUp(d)
	}
	step := max(one.Per/16, time.Second)
	if rest := d % step; rest > 0 {
		d += step - rest
	}
	return d
}

// key appends to room what the call is counted by.
func (one *limit) key(ctx context.Context, room []byte, c *chain.Call, m proto.Message) (ratelimit.Key, *chain.Refusal) {
	if one.callerAlone {
		return ratelimit.TextKey(c.Caller.ID().String()), nil
	}
	key := ratelimit.Key(room)
	for _, by := range one.Keys {
		switch by {
		case policy.LimitByCaller:
			key = key.Text(c.Caller.ID().String())
		case policy.LimitByMethod:
			key = key.Text(c.Method)
		case policy.LimitByTrustDomain:
			key = key.Text(c.Caller.TrustDomain().Name())
		case policy.LimitByAddress:
			key = appendHost(key, c.Caller.Address())
		}
	}
	for i := range one.KeyFields {
		var ok bool
		if key, ok = appendField(key, one.KeyFields[i], m.ProtoReflect()); !ok {
			return nil, unreadable(one)
		}
	}
	if one.keyFunc != nil {
		text, err := one.keyFunc(ctx, c.Caller, c.Method, m)
		if err != nil {
			return nil, chain.RefuseWith(codes.PermissionDenied, "permission denied", "key-function-failed", one.KeyFunction+": "+err.Error(), errorInfo("PERMISSION_DENIED"))
		}
		key = key.Text(text)
	}
	return key, nil
}

// appendHost appends an address without its port. Of an IPv6 address it is the first 64 bits: whoever has one has all that share them.
func appendHost(key ratelimit.Key, address string) ratelimit.Key {
	if !strings.Contains(address, ":") {
		return key.Text(address) // a socket that is no network's
	}
	host, err := netip.ParseAddrPort(address)
	if err != nil {
		return key.Text(address)
	}
	bytes := host.Addr().As16()
	if host.Addr().Unmap().Is4() {
		return key.Bytes(bytes[:])
	}
	return key.Bytes(bytes[:8])
}

func unreadable(one *limit) *chain.Refusal {
	return chain.RefuseWith(codes.Internal, "internal error", "unreadable-message", one.At+": the message is of another type than the policy was compiled for")
}
