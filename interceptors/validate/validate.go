// Package validate checks messages against their protovalidate rules, and says what is wrong with one in a way that is safe to
// send to whoever sent it: which field, which rule, and nothing of the values.
package validate

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Validator checks messages of the types that it was compiled for. It is safe for concurrent use.
type Validator struct {
	// first stops at the first violation, and is what nearly every message meets. Only a message that breaks a rule needs all,
	// whose rules are compiled when the first one does.
	first protovalidate.Validator
	all   func() (protovalidate.Validator, error)
	types map[protoreflect.FullName]bool // nil: any
	// fast has what is known of types' rules without protovalidate.
	fast  programs
	texts texts
}

// New compiles the rules of the given message types and of all that they contain, so that a rule which cannot be compiled is
// an error now and not at the first message.
func New(types ...protoreflect.MessageDescriptor) (*Validator, error) {
	v, err := compile(types, protovalidate.WithDisableLazy())
	if err != nil {
		return nil, err
	}
	v.types = make(map[protoreflect.FullName]bool, len(types))
	for _, t := range types {
		v.types[t.FullName()] = true
	}
	return v, nil
}

// NewLazy is [New] for programs that meet types which they cannot list: the rules of any other type are compiled when its first
// message is checked. What then cannot be compiled cannot be checked, and is an error.
func NewLazy(types ...protoreflect.MessageDescriptor) (*Validator, error) { return compile(types) }

func compile(types []protoreflect.MessageDescriptor, opts ...protovalidate.ValidatorOption) (*Validator, error) {
	// Of a type without rules protovalidate is never asked.
	all := slices.DeleteFunc(transitive(types), bare)
	first, err := protovalidate.New(append(opts, protovalidate.WithMessageDescriptors(all...), protovalidate.WithFailFast())...)
	if err != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	v := &Validator{first: first, texts: make(texts), all: sync.OnceValues(func() (protovalidate.Validator, error) {
		return protovalidate.New()
	})}
	var errs []error
	for _, t := range all {
		if err := compiled(first, t); err != nil {
			errs = append(errs, fmt.Errorf("validate: %s: message %s: %w", t.ParentFile().Path(), t.FullName(), err))
		}
		v.texts.collect(t)
	}
	if len(errs) == 0 {
		v.fast = compilePrograms(types)
	}
	return v, errors.Join(errs...)
}

// compiled returns what of t's rules cannot be compiled. An empty message brings it to light, looked at one field at a time: the first
// rule that it breaks would otherwise hide the rules after it.
func compiled(validator protovalidate.Validator, t protoreflect.MessageDescriptor) error {
	looked := []protoreflect.Descriptor{t}
	for i := range t.Fields().Len() {
		looked = append(looked, t.Fields().Get(i))
	}
	for _, at := range looked {
		only := protovalidate.FilterFunc(func(_ protoreflect.Message, d protoreflect.Descriptor) bool { return d == at })
		var broken *protovalidate.CompilationError
		if err := validator.Validate(dynamicpb.NewMessage(t), protovalidate.WithFilter(only)); errors.As(err, &broken) {
			return err
		}
	}
	return nil
}

// maxDetailed is the largest message of which all violations are reported. Of a larger one it is the first alone: a long list of wrong
// items, or messages that nest thousands deep, must not cost a violation each, with the whole way to it.
const maxDetailed = 4 << 10

// Check returns nil if msg keeps its rules, a [*Violations] if it breaks some, and any other error if that cannot be decided:
// the message is of a type that the Validator was not compiled for, or a rule cannot be evaluated on it.
func (v *Validator) Check(msg proto.Message) error {
	m := msg.ProtoReflect()
	p := v.fast[m.Descriptor()]
	if p != nil && p.certain(m) && (p.whole() || v.first.Validate(msg, p.rest...) == nil) {
		return nil
	}
	if name := m.Descriptor().FullName(); v.types != nil && !v.types[name] {
		return fmt.Errorf("validate: no rules were compiled for %s", name)
	}
	err := v.validate(msg, p != nil)
	if err == nil {
		return nil
	}
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		// What the evaluation says of its failure may hold values of the message.
		return fmt.Errorf("validate: a rule of %s cannot be evaluated on this message (%T)", m.Descriptor().FullName(), err)
	}
	return v.texts.violations(invalid)
}

// validate is protovalidate's answer to msg, with all violations unless it is a large one.
func (v *Validator) validate(msg proto.Message, doubtful bool) error {
	var first error
	if !doubtful {
		// Nearly every message is valid, and of what is valid the size is not needed.
		if first = v.first.Validate(msg); first == nil {
			return nil
		}
	}
	if proto.Size(msg) <= maxDetailed {
		if all, err := v.all(); err == nil {
			if detailed := all.Validate(msg); detailed != nil || doubtful {
				return detailed
			}
			// Whatever the second look finds, the first one stands: a rule over the time of day can change its mind between the two.
			return first
		}
	}
	if doubtful {
		return v.first.Validate(msg)
	}
	return first
}

// transitive returns types and every message type that a field of theirs can hold, each once, in the order they are met.
func transitive(types []protoreflect.MessageDescriptor) []protoreflect.MessageDescriptor {
	seen := make(map[protoreflect.FullName]bool)
	var all []protoreflect.MessageDescriptor
	var visit func(protoreflect.MessageDescriptor)
	visit = func(t protoreflect.MessageDescriptor) {
		if seen[t.FullName()] {
			return
		}
		seen[t.FullName()] = true
		all = append(all, t)
		for i := range t.Fields().Len() {
			if m := t.Fields().Get(i).Message(); m != nil {
				visit(m)
			}
		}
	}
	for _, t := range types {
		visit(t)
	}
	return all
}
