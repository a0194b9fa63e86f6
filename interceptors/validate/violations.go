package validate

import (
	"strings"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Violations is the error of a message that breaks its rules. Everything in it comes from the rules and from positions in the
// message, nothing from its values.
type Violations struct {
	// Proto is the standard form, buf.validate.Violations, without values: no map keys, and no text that a rule's expression
	// put together.
	Proto *validatepb.Violations
}

// Details travel in HTTP headers, which are not for lists: maxViolations is how many violations are reported, and maxElements how
// much of the way to a field. A small message can nest thousands deep; of a longer way the beginning is given.
const (
	maxViolations = 16
	maxElements   = 16
)

// Error names each field and the rule it breaks.
func (v *Violations) Error() string {
	var b strings.Builder
	for i, one := range v.Proto.GetViolations() {
		if i > 0 {
			b.WriteString("; ")
		}
		if field := protovalidate.FieldPathString(one.GetField()); field != "" {
			b.WriteString(field + ": ")
		}
		b.WriteString(describe(one) + " [" + one.GetRuleId() + "]")
	}
	return b.String()
}

// BadRequest returns the same as a google.rpc.BadRequest.
func (v *Violations) BadRequest() *errdetails.BadRequest {
	bad := &errdetails.BadRequest{}
	for _, one := range v.Proto.GetViolations() {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       protovalidate.FieldPathString(one.GetField()),
			Description: describe(one),
			Reason:      one.GetRuleId(),
		})
	}
	return bad
}

func describe(v *validatepb.Violation) string {
	if v.GetMessage() != "" {
		return v.GetMessage()
	}
	return "breaks a rule"
}

// texts holds the messages that rules written in CEL carry as constants, by rule ID. Such a rule may also compute its message,
// out of the values it looks at; what is not among the constants was computed, and stays here.
type texts map[text]bool

type text struct{ id, message string }

func (t texts) collect(m protoreflect.MessageDescriptor) {
	if rules, ok := extension(m.Options(), validatepb.E_Message).(*validatepb.MessageRules); ok {
		t.add(rules.GetCel())
	}
	for i := range m.Fields().Len() {
		t.collectField(extension(m.Fields().Get(i).Options(), validatepb.E_Field))
	}
}

func (t texts) collectField(options any) {
	rules, ok := options.(*validatepb.FieldRules)
	if !ok || rules == nil {
		return
	}
	t.add(rules.GetCel())
	t.collectField(rules.GetRepeated().GetItems())
	t.collectField(rules.GetMap().GetKeys())
	t.collectField(rules.GetMap().GetValues())
}

func (t texts) add(rules []*validatepb.Rule) {
	for _, r := range rules {
		if r.GetMessage() != "" {
			t[text{r.GetId(), r.GetMessage()}] = true
		}
	}
}

// extension reads an option of a descriptor; nil if it is not set in a form that this program knows.
func extension(options proto.Message, ext protoreflect.ExtensionType) any {
	switch options.(type) {
	case *descriptorpb.MessageOptions, *descriptorpb.FieldOptions:
		return proto.GetExtension(options, ext)
	}
	return nil
}

func (t texts) violations(invalid *protovalidate.ValidationError) *Violations {
	out := &validatepb.Violations{}
	for _, v := range invalid.Violations {
		if len(out.GetViolations()) == maxViolations {
			break
		}
		out.Violations = append(out.Violations, t.safe(v.Proto))
	}
	return &Violations{Proto: out}
}

// safe copies a violation without anything that came out of the message.
func (t texts) safe(v *validatepb.Violation) *validatepb.Violation {
	out := &validatepb.Violation{
		Field:  withoutKeys(v.GetField()),
		Rule:   withoutKeys(v.GetRule()),
		RuleId: new(v.GetRuleId()),
		ForKey: v.ForKey,
	}
	if standard(v.GetRule()) || t[text{v.GetRuleId(), v.GetMessage()}] {
		out.Message = new(v.GetMessage())
	}
	return out
}

// standard reports whether a rule is one of protovalidate's own, whose messages are made of the rule alone. The others are
// written in CEL by the API's author: in the fields of this name, or as an extension of a standard rule.
func standard(rule *validatepb.FieldPath) bool {
	for _, e := range rule.GetElements() {
		switch name := e.GetFieldName(); {
		case name == "cel", name == "cel_expression", strings.HasPrefix(name, "["):
			return false
		}
	}
	return len(rule.GetElements()) > 0
}

// withoutKeys keeps the indices of a path and drops the keys of maps, which are values of the message.
func withoutKeys(path *validatepb.FieldPath) *validatepb.FieldPath {
	if path == nil {
		return nil
	}
	out := &validatepb.FieldPath{}
	for _, e := range path.GetElements()[:min(len(path.GetElements()), maxElements)] {
		// What protovalidate returns it shares among all its answers, and a caller may do with this one as it likes.
		e = proto.CloneOf(e)
		switch e.GetSubscript().(type) {
		case nil, *validatepb.FieldPathElement_Index:
		default:
			e.Subscript = nil
		}
		out.Elements = append(out.Elements, e)
	}
	return out
}
