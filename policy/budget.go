package policy

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Budget is what one call, or one caller's calls together, may use; 0 is not limited. The fields are those of the schema's
// Budget.
type Budget struct {
	MaxDepth                   int
	MaxItems                   int
	MaxConcurrentCallsByCaller uint32
	MaxConcurrentCalls         uint32
	MaxStreamMessages          uint64
	MaxStreamBytes             uint64
	MaxStreamIdle              time.Duration
}

func newBudget(b *grpcguardv1.Budget) Budget {
	return Budget{
		MaxDepth:                   int(b.GetMaxDepth()),
		MaxItems:                   int(b.GetMaxItems()),
		MaxConcurrentCallsByCaller: b.GetMaxConcurrentCallsPerCaller(),
		MaxConcurrentCalls:         b.GetMaxConcurrentCalls(),
		MaxStreamMessages:          b.GetMaxStreamMessages(),
		MaxStreamBytes:             b.GetMaxStreamBytes(),
		MaxStreamIdle:              b.GetMaxStreamIdle().AsDuration(),
	}
}

// refuseIdleBudget notes what a rule of one method says of streams that the method does not have. A rule of a service says it
// for those of its methods that have them.
func (c *compiler) refuseIdleBudget(m protoreflect.MethodDescriptor, d declared) {
	b := d.rule.GetBudget()
	for name, set := range map[string]bool{
		"max_stream_messages": b.GetMaxStreamMessages() > 0 && !m.IsStreamingClient(),
		"max_stream_bytes":    b.GetMaxStreamBytes() > 0 && !m.IsStreamingClient(),
		"max_stream_idle":     b.GetMaxStreamIdle() != nil && !m.IsStreamingClient() && !m.IsStreamingServer(),
	} {
		if set {
			c.found.addf(d.at("budget", name), "does nothing: the method has no such stream")
		}
	}
}

// mergeInto lays one message of options over another, field by field; lists are replaced.
func mergeInto[M proto.Message](under, over M) M {
	if !over.ProtoReflect().IsValid() {
		return under
	}
	if !under.ProtoReflect().IsValid() {
		return proto.CloneOf(over)
	}
	merged := proto.CloneOf(under)
	over.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		merged.ProtoReflect().Clear(field)
		return true
	})
	proto.Merge(merged, over)
	return merged
}
