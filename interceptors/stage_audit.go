package interceptors

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// auditStage lets nothing begin that cannot be recorded. It is the last before the handler: whatever is refused for another reason is no
// transaction.
type auditStage struct {
	record *recordStage
	ready  audit.ReadySink // nil where the sink does not know
	redact *audit.Redactor // nil where no transaction has a sensitive field
}

func newAuditStage(r *recordStage, redact *audit.Redactor) *auditStage {
	s := &auditStage{record: r, redact: redact}
	s.ready, _ = r.sink.(audit.ReadySink)
	r.intents = s
	return s
}

func (*auditStage) Name() string { return "audit" }

// Applies implements [chain.Scoped].
func (s *auditStage) Applies(rule *policy.Rule) bool {
	return s.transacts(rule) || s.ready != nil && s.record.classOf(rule) == audit.Durable
}

// transacts reports whether the calls of a method are transactions. A client's are none: it is the callee that moves the money.
func (s *auditStage) transacts(rule *policy.Rule) bool {
	return s.record.side == audit.SideServer && rule != nil && rule.Transaction() != nil
}

// intents are what the journal knows of the transactions of one call.
type intents struct {
	// first is for a stream that is one transaction. A handler may receive in several goroutines; none of them gets a message before the
	// intent of the first one is durable, and none ever if it is not.
	first sync.Once
	whole *chain.Refusal

	mu          sync.Mutex
	records     uint64 // the call's records so far, which is the number of the next
	intents     uint64 // those that are in the journal, or may be
	kept        uint64 // those that surely are
	answered    uint64 // how many of them an answered record covers
	transaction audit.Transaction
	over        bool           // the last record of the call is next
	writing     sync.WaitGroup // records that are being written; none is added when it is over
}

// errOver is for the goroutines of a handler that go on when it has returned: the outcome is the last of a call's records.
var errOver = chain.Refuse(codes.Canceled, "the call has ended", "call-over")

// Admit refuses early what could not be recorded later, before anything of it is read.
func (s *auditStage) Admit(c *chain.Call) *chain.Refusal {
	if s.ready == nil || s.record.classOf(c.Rule) != audit.Durable {
		return nil
	}
	if err := s.ready.Ready(); err != nil {
		return unrecordable(err)
	}
	return nil
}

func (s *auditStage) Begin(_ context.Context, c *chain.Call) *chain.Refusal {
	if s.transacts(c.Rule) {
		c.Keep(s, &intents{})
		c.Withhold()
	}
	return nil
}

// Receive makes the intent durable before the handler sees the message: of the first message, or, where each is a transaction, of each.
func (s *auditStage) Receive(ctx context.Context, c *chain.Call, m chain.Message) *chain.Refusal {
	known, ok := c.Kept(s).(*intents)
	if !ok {
		return nil
	}
	if c.Rule.Transaction().PerMessage {
		return s.intend(ctx, c, known, m)
	}
	known.first.Do(func() {
		known.whole = errOver // where a panic leaves it
		known.whole = s.intend(ctx, c, known, m)
	})
	if known.whole == nil && known.ended() {
		return errOver
	}
	return known.whole
}

// intend writes the intent of a message, and waits until it is durable.
func (s *auditStage) intend(ctx context.Context, c *chain.Call, known *intents, m chain.Message) *chain.Refusal {
	t := c.Rule.Transaction()
	if m.Proto == nil {
		return chain.RefuseWith(codes.Internal, "internal error", "unreadable-message", t.At+": the message is no protobuf message")
	}
	transaction, refusal := readTransaction(t, m.Proto, s.redact)
	if refusal != nil {
		return refusal
	}
	number, message, ok := known.begin(transaction)
	if !ok {
		return errOver
	}
	defer known.writing.Done()
	err := s.write(ctx, c, audit.TypeIntent, number, message, &transaction)
	over := known.settle(err)
	switch {
	case err != nil:
		return unrecordable(err)
	case over:
		return errOver
	}
	return nil
}

// begin counts an intent that is about to be written, and returns the number of its record and of its message. It is not ok when the call
// is over.
func (i *intents) begin(t audit.Transaction) (number, message uint64, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return 0, 0, false
	}
	i.writing.Add(1)
	i.intents++
	i.transaction = t
	i.records++
	return i.records - 1, i.intents, true
}

// settle takes what became of an intent, and reports whether the call ended meanwhile. One that is not in the journal is none.
func (i *intents) settle(err error) (over bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err == nil:
		i.kept++
	case !errors.Is(err, audit.ErrUndecided):
		i.intents--
	}
	return i.over
}

func (i *intents) ended() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.over
}

// Send makes durable, before a message of a stream leaves that may tell of a transaction, that it is told of.
func (s *auditStage) Send(ctx context.Context, c *chain.Call, _ chain.Message) *chain.Refusal {
	known, ok := c.Kept(s).(*intents)
	if !ok || c.Kind == chain.KindUnary { // The outcome of a unary call is written before its one message leaves.
		return nil
	}
	known.mu.Lock()
	// Of an intent that is still being written no handler knows.
	over, untold, number, covers := known.over, known.kept > known.answered, known.records, known.kept
	if untold && !over {
		known.writing.Add(1)
		known.records++
	}
	known.mu.Unlock()
	switch {
	case over:
		return errOver
	case !untold:
		return nil
	}
	defer known.writing.Done()
	if err := s.write(ctx, c, audit.TypeAnswered, number, covers, nil); err != nil {
		return unrecordable(err)
	}
	known.mu.Lock()
	known.answered = max(known.answered, covers)
	known.mu.Unlock()
	return nil
}

// SendHeader does as Send: a header can tell as much as a message.
func (s *auditStage) SendHeader(ctx context.Context, c *chain.Call) *chain.Refusal {
	return s.Send(ctx, c, chain.Message{})
}

// write writes a record that the call waits for.
func (s *auditStage) write(ctx context.Context, c *chain.Call, kind audit.Type, number, messages uint64, t *audit.Transaction) error {
	r := records.Get().(*audit.Record) //nolint:forcetypeassert // The pool holds nothing else.
	defer records.Put(r)
	s.record.fill(ctx, c, r)
	r.ID.Number, r.Type, r.Class, r.Time, r.Messages = number, kind, audit.Durable, time.Now(), messages
	if t != nil {
		r.Transaction = *t
	}
	return s.record.give(ctx, r)
}

// conclude says in the last record of a call what became of its transactions, and reports whether there were any.
func (s *auditStage) conclude(c *chain.Call, r *audit.Record) bool {
	known, ok := c.Kept(s).(*intents)
	if !ok {
		return false
	}
	known.mu.Lock()
	known.over = true
	known.mu.Unlock()
	known.writing.Wait() // for what a handler left running, so that it is counted, and none of it comes behind
	known.mu.Lock()
	defer known.mu.Unlock()
	r.ID.Number = known.records
	if known.intents <= 1 {
		r.Transaction = known.transaction // Of several the intents say which.
	}
	if known.intents == 0 {
		return false
	}
	r.Type, r.Class, r.Messages = audit.TypeOutcome, audit.Durable, known.intents
	return true
}

func unrecordable(err error) *chain.Refusal {
	return chain.RefuseWith(codes.Unavailable, "the call cannot be recorded", "not-recordable", err.Error(), errorInfo("NOT_RECORDABLE"))
}
