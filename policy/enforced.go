package policy

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// enforced names the fields of a Rule that this version enforces. Whatever else is set is refused: a rule that is written down
// and not enforced is worse than no rule. A field that is added to the schema is refused until it is added here.
var enforced = map[protoreflect.Name]bool{
	"callers":            true,
	"denied_callers":     true,
	"nobody":             true,
	"max_deadline":       true,
	"max_request_bytes":  true,
	"max_response_bytes": true,
	"budget":             true,
	"rate_limits":        true,
	"breaker":            true,
	"transaction":        true,
	"record_class":       true,
}

// enforcedOfFields names the fields of a FieldRule that this version enforces.
var enforcedOfFields = map[protoreflect.Name]bool{"sensitive": true}

const notEnforced = "not enforced by this version of grpcguard; remove it"

// refuseUnenforced notes every field of a rule that would do nothing.
func (c *compiler) refuseUnenforced(rule proto.Message, enforced map[protoreflect.Name]bool, at func(...any) place) {
	rule.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !enforced[field.Name()] {
			c.found.addf(at(string(field.Name())), notEnforced)
		}
		return true
	})
	if number, unknown := unknownField(rule.ProtoReflect()); unknown {
		c.found.addf(at(), "field %d is not known to this version of grpcguard, and so not enforced", number)
	}
}

// refuseUnenforcedMessages notes field and message options that would do nothing, in all that m can hold.
func (c *compiler) refuseUnenforcedMessages(m protoreflect.MessageDescriptor) {
	if c.seen[m.FullName()] {
		return
	}
	c.seen[m.FullName()] = true
	if rule, err := messageRule(m); err != nil {
		c.found.addf(annotationPlace(m, "message "+string(m.FullName())), "%v", err)
	} else if rule != nil {
		c.found.addf(annotationPlace(m, "message "+string(m.FullName())).option("(grpcguard.v1.message)"), notEnforced)
	}
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		if rule, err := fieldRule(field); err != nil {
			c.found.addf(annotationPlace(field, "field "+string(field.FullName())), "%v", err)
		} else if rule != nil {
			at := annotationPlace(field, "field "+string(field.FullName())).option("(grpcguard.v1.field)")
			c.refuseUnenforced(rule, enforcedOfFields, annotationAt(at))
		}
		if inner := field.Message(); inner != nil {
			c.refuseUnenforcedMessages(inner)
		}
	}
}

// unknownField returns the number of a field that this program's schema does not have, in m or in what m holds.
func unknownField(m protoreflect.Message) (number int32, unknown bool) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		n, _, _ := protowire.ConsumeTag(raw)
		return int32(n), true
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && !unknown; i++ {
				number, unknown = unknownField(v.List().Get(i).Message())
			}
		default:
			number, unknown = unknownField(v.Message())
		}
		return !unknown
	})
	return number, unknown
}

var errNoOptions = fmt.Errorf("its options cannot be read")

// ruleOf reads an option of ours from a descriptor, whatever form its options are in: generated code has them as Go values, a
// descriptor that came over a wire may have them as bytes of an unknown field, where they must not be overlooked.
func ruleOf[R proto.Message](options proto.Message, fresh proto.Message, ext protoreflect.ExtensionType) (R, error) {
	var none R
	raw, err := proto.Marshal(options)
	if err != nil {
		return none, fmt.Errorf("%w: %w", errNoOptions, err)
	}
	if len(raw) == 0 {
		return none, nil
	}
	if err := (proto.UnmarshalOptions{Resolver: ours{}}).Unmarshal(raw, fresh); err != nil {
		return none, fmt.Errorf("%w: %w", errNoOptions, err)
	}
	if !proto.HasExtension(fresh, ext) {
		return none, nil
	}
	rule, ok := proto.GetExtension(fresh, ext).(R)
	if !ok {
		return none, errNoOptions
	}
	return rule, nil
}
