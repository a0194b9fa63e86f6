package validation

import (
	"errors"
	"slices"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/validate"
)

// verdict is what is said of a message. A failure is neither valid nor broken.
type verdict struct {
	valid bool
	// broken has the field and the rule of each violation, sorted.
	broken []string
}

func (v verdict) differs(other verdict) bool {
	return v.valid != other.valid || !slices.Equal(v.broken, other.broken)
}

// verdicts asks both sides.
func (p *pair) verdicts(m proto.Message) (ours, theirs verdict) {
	err := p.ours.Check(m)
	ours.valid = err == nil
	if invalid, is := errors.AsType[*validate.Violations](err); is {
		ours.broken = named(invalid.Proto.GetViolations())
	}
	err = p.theirs.Validate(m)
	theirs.valid = err == nil
	if invalid, is := errors.AsType[*protovalidate.ValidationError](err); is {
		theirs.broken = named(invalid.ToProto().GetViolations())
	}
	return ours, theirs
}

func named(violations []*validatepb.Violation) []string {
	names := make([]string, len(violations))
	for i, v := range violations {
		names[i] = protovalidate.FieldPathString(v.GetField()) + " " + v.GetRuleId()
	}
	slices.Sort(names)
	return names
}
