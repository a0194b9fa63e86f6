package validate

import (
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// check reports whether a value certainly keeps a rule. False says nothing: protovalidate is asked then.
type check func(protoreflect.Value) bool

// program is what is known here of one message type's rules, so that the messages which keep them need not be walked by protovalidate.
// It only ever says that a message certainly keeps the rules; whatever else there is to say is said by protovalidate, which sees the message
// as if there were no program.
type program struct {
	fields   []fieldProgram
	oneofs   []protoreflect.OneofDescriptor // those that are required
	messages []expression
	// done has what the program answers for: fields, oneofs, and the type itself for its expressions.
	done map[protoreflect.Descriptor]bool
	// rest asks protovalidate for all but done; nil if nothing else has rules.
	rest []protovalidate.ValidationOption
}

// fieldProgram is what a field must keep to.
type fieldProgram struct {
	desc protoreflect.FieldDescriptor
	// required says that it must be there, and optional that its checks are for one that is there.
	required, optional bool
	checks             []check
}

// certain reports whether m certainly keeps all that the program answers for.
func (p *program) certain(m protoreflect.Message) bool {
	for i := range p.fields {
		f := &p.fields[i]
		if (f.required || f.optional) && !m.Has(f.desc) {
			if f.required {
				return false
			}
			continue
		}
		if len(f.checks) == 0 {
			continue
		}
		v := m.Get(f.desc)
		for _, holds := range f.checks {
			if !holds(v) {
				return false
			}
		}
	}
	for _, o := range p.oneofs {
		if m.WhichOneof(o) == nil {
			return false
		}
	}
	for _, holds := range p.messages {
		if !holds(m) {
			return false
		}
	}
	return true
}

// nothing is the program of all types without rules.
var nothing = &program{}

// whole reports whether the program answers for all rules of its type.
func (p *program) whole() bool { return p != nil && p.rest == nil }

// empty reports whether the program has nothing to look at.
func (p *program) empty() bool { return len(p.fields)+len(p.oneofs)+len(p.messages) == 0 }

// programs makes programs, each type's once. A type of which nothing can be said has nil, and so has one that is being made: what contains
// itself is left to protovalidate.
type programs map[protoreflect.MessageDescriptor]*program

// compilePrograms returns the programs of types, without those that are nil.
func compilePrograms(types []protoreflect.MessageDescriptor) programs {
	made, ours := make(programs), make(programs)
	for _, t := range types {
		if p := made.of(t); p != nil {
			ours[t] = p
		}
	}
	return ours
}

func (ps programs) of(t protoreflect.MessageDescriptor) *program {
	if p, ok := ps[t]; ok {
		return p
	}
	ps[t] = nil
	ps[t] = ps.compile(t)
	return ps[t]
}

func (ps programs) compile(t protoreflect.MessageDescriptor) *program {
	if bare(t) {
		return nothing
	}
	rules, err := protovalidate.ResolveMessageRules(t)
	if err != nil {
		return nil
	}
	left := openRules(rules)
	expressions := append(left.takeAll("cel_expression"), left.takeAll("cel")...)
	if !left.empty() {
		// A rule on several fields changes what the fields' own rules mean.
		return nil
	}
	p := &program{done: make(map[protoreflect.Descriptor]bool)}
	isRest := !p.addExpressions(t, expressions)
	for i := range t.Oneofs().Len() {
		isRest = !p.addOneof(t.Oneofs().Get(i)) || isRest
	}
	for i := range t.Fields().Len() {
		isRest = !p.addField(ps, t.Fields().Get(i)) || isRest
	}
	if !isRest {
		return p
	}
	if p.empty() || containsItself(t) {
		// Nothing is gained, or protovalidate would pass over fields of messages of the same type further down as well.
		return nil
	}
	done := p.done
	p.rest = []protovalidate.ValidationOption{protovalidate.WithFilter(protovalidate.FilterFunc(
		func(_ protoreflect.Message, d protoreflect.Descriptor) bool { return !done[d] },
	))}
	return p
}

// addExpressions reports whether all expressions on a message are understood. It is all of them or none: protovalidate can be asked for a
// message's expressions only together.
func (p *program) addExpressions(t protoreflect.MessageDescriptor, rules []protoreflect.Value) bool {
	var all []expression
	for _, r := range rules {
		source, isText := r.Interface().(string)
		if !isText {
			m := r.Message()
			source = m.Get(m.Descriptor().Fields().ByName("expression")).String()
		}
		e := parseExpression(t, source)
		if e == nil {
			return false
		}
		all = append(all, e)
	}
	p.messages, p.done[t] = all, true
	return true
}

func (p *program) addOneof(o protoreflect.OneofDescriptor) bool {
	rules, err := protovalidate.ResolveOneofRules(o)
	if err != nil {
		return false
	}
	left := openRules(rules)
	required, _ := left.take("required")
	if !left.empty() {
		return false
	}
	if required.IsValid() && required.Bool() {
		p.oneofs = append(p.oneofs, o)
	}
	p.done[o] = true
	return true
}

func (p *program) addField(ps programs, d protoreflect.FieldDescriptor) bool {
	f, understood := ps.field(d)
	if !understood {
		return false
	}
	if f.required || len(f.checks) > 0 {
		p.fields = append(p.fields, f)
	}
	p.done[d] = true
	return true
}

// bare reports whether neither t nor anything in it has rules.
func bare(t protoreflect.MessageDescriptor) bool {
	for _, m := range transitive([]protoreflect.MessageDescriptor{t}) {
		if rules, err := protovalidate.ResolveMessageRules(m); rules != nil || err != nil {
			return false
		}
		for i := range m.Oneofs().Len() {
			if rules, err := protovalidate.ResolveOneofRules(m.Oneofs().Get(i)); rules != nil || err != nil {
				return false
			}
		}
		for i := range m.Fields().Len() {
			if rules, err := protovalidate.ResolveFieldRules(m.Fields().Get(i)); rules != nil || err != nil {
				return false
			}
		}
	}
	return true
}

// containsItself reports whether a message of type t can be somewhere inside one.
func containsItself(t protoreflect.MessageDescriptor) bool {
	for _, m := range transitive([]protoreflect.MessageDescriptor{t}) {
		for i := range m.Fields().Len() {
			if inner := m.Fields().Get(i).Message(); inner != nil && inner.FullName() == t.FullName() {
				return true
			}
		}
	}
	return false
}

// leftRules is a copy of rules from which each that is understood is taken. What is left in the end is not understood, be it an extension,
// a field of a later version, or one that this program was never told of.
type leftRules struct{ protoreflect.Message }

func openRules(m proto.Message) leftRules {
	return leftRules{proto.Clone(m).ProtoReflect()}
}

// take returns a rule's value, and takes it out; the invalid value and false if the rule is not there.
func (l leftRules) take(name protoreflect.Name) (protoreflect.Value, bool) {
	d := l.Descriptor().Fields().ByName(name)
	if d == nil || !l.IsValid() || !l.Has(d) {
		return protoreflect.Value{}, false
	}
	v := l.Get(d)
	l.Clear(d)
	return v, true
}

// takeAll is take of a rule that is a list.
func (l leftRules) takeAll(name protoreflect.Name) []protoreflect.Value {
	d := l.Descriptor().Fields().ByName(name)
	if d == nil || !l.IsValid() || !l.Has(d) {
		return nil
	}
	list := l.Get(d).List()
	all := make([]protoreflect.Value, list.Len())
	for i := range all {
		all[i] = list.Get(i)
	}
	l.Clear(d)
	return all
}

// empty reports whether nothing is left. An empty rule that is there counts as one.
func (l leftRules) empty() bool { return proto.Size(l.Interface()) == 0 }
