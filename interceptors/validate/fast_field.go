package validate

import (
	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// field returns what the field d must keep to; false if one of its rules is not understood.
func (ps programs) field(d protoreflect.FieldDescriptor) (fieldProgram, bool) {
	rules, err := protovalidate.ResolveFieldRules(d)
	if err != nil {
		return fieldProgram{}, false
	}
	f := fieldProgram{desc: d, optional: d.HasPresence()}
	left := openRules(rules)
	if v, is := left.take("ignore"); is {
		switch validatepb.Ignore(v.Enum()) {
		case validatepb.Ignore_IGNORE_UNSPECIFIED:
		case validatepb.Ignore_IGNORE_IF_ZERO_VALUE:
			f.optional = true
		case validatepb.Ignore_IGNORE_ALWAYS:
			return fieldProgram{desc: d}, true
		default:
			return f, false
		}
	}
	if v, is := left.take("required"); is {
		f.required = v.Bool()
	}
	var understood bool
	switch {
	case d.IsMap():
		f.checks, understood = ps.pairs(d, left)
	case d.IsList():
		f.checks, understood = ps.items(d, left)
	default:
		f.checks, understood = ps.value(d, left)
	}
	return f, understood
}

// value returns the checks of a value that is a field of its own, an item of a list, or a key or a value of a map.
func (ps programs) value(d protoreflect.FieldDescriptor, left leftRules) ([]check, bool) {
	if d.Message() != nil {
		inner := ps.of(d.Message())
		if !left.empty() || !inner.whole() {
			return nil, false
		}
		if inner.empty() {
			return nil, true
		}
		return []check{func(v protoreflect.Value) bool { return inner.certain(v.Message()) }}, true
	}
	// The rules of a kind stand in the field that has the kind's name.
	name := protoreflect.Name(d.Kind().String())
	own, has := left.take(name)
	if !left.empty() {
		return nil, false
	}
	if !has {
		return nil, true
	}
	rules := leftRules{own.Message()}
	rules.takeAll("example")
	checks := scalar(d, rules)
	return checks, rules.empty()
}

func scalar(d protoreflect.FieldDescriptor, rules leftRules) []check {
	switch d.Kind() {
	case protoreflect.StringKind:
		return stringChecks(rules)
	case protoreflect.BytesKind:
		return bytesChecks(rules)
	case protoreflect.BoolKind:
		return equality(rules, protoreflect.Value.Bool)
	case protoreflect.EnumKind:
		return enumChecks(d.Enum(), rules)
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return append(equality(rules, protoreflect.Value.Int), bounds(rules, protoreflect.Value.Int)...)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return append(equality(rules, protoreflect.Value.Uint), bounds(rules, protoreflect.Value.Uint)...)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return bounds(rules, protoreflect.Value.Float)
	default: // messages have programs
		return nil
	}
}

func (ps programs) items(d protoreflect.FieldDescriptor, left leftRules) ([]check, bool) {
	rules, has := left.take("repeated")
	if !left.empty() {
		return nil, false
	}
	inner := openRules((*validatepb.FieldRules)(nil))
	var checks []check
	if has {
		own := leftRules{rules.Message()}
		if v, is := own.take("items"); is {
			inner = leftRules{v.Message()}
		}
		checks = size(own, "min_items", "max_items", func(v protoreflect.Value) int { return v.List().Len() })
		if v, is := own.take("unique"); is && v.Bool() {
			return nil, false
		}
		if !own.empty() {
			return nil, false
		}
	}
	each, understood := ps.value(d, inner)
	if len(each) > 0 {
		checks = append(checks, func(v protoreflect.Value) bool {
			list := v.List()
			for i := range list.Len() {
				if !all(each, list.Get(i)) {
					return false
				}
			}
			return true
		})
	}
	return checks, understood
}

func (ps programs) pairs(d protoreflect.FieldDescriptor, left leftRules) ([]check, bool) {
	rules, has := left.take("map")
	if !left.empty() {
		return nil, false
	}
	keyRules, valueRules := openRules((*validatepb.FieldRules)(nil)), openRules((*validatepb.FieldRules)(nil))
	var checks []check
	if has {
		own := leftRules{rules.Message()}
		if v, is := own.take("keys"); is {
			keyRules = leftRules{v.Message()}
		}
		if v, is := own.take("values"); is {
			valueRules = leftRules{v.Message()}
		}
		checks = size(own, "min_pairs", "max_pairs", func(v protoreflect.Value) int { return v.Map().Len() })
		if !own.empty() {
			return nil, false
		}
	}
	keys, keysUnderstood := ps.value(d.MapKey(), keyRules)
	values, valuesUnderstood := ps.value(d.MapValue(), valueRules)
	if len(keys)+len(values) > 0 {
		checks = append(checks, func(v protoreflect.Value) bool {
			keep := true
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				keep = all(keys, k.Value()) && all(values, v)
				return keep
			})
			return keep
		})
	}
	return checks, keysUnderstood && valuesUnderstood
}

// size returns the check of how many there are, none if there is no rule about it.
func size(rules leftRules, least, most protoreflect.Name, length func(protoreflect.Value) int) []check {
	var checks []check
	if v, is := rules.take(least); is {
		n := v.Uint()
		checks = append(checks, func(v protoreflect.Value) bool { return uint64(length(v)) >= n })
	}
	if v, is := rules.take(most); is {
		n := v.Uint()
		checks = append(checks, func(v protoreflect.Value) bool { return uint64(length(v)) <= n })
	}
	return checks
}

func all(checks []check, v protoreflect.Value) bool {
	for _, holds := range checks {
		if !holds(v) {
			return false
		}
	}
	return true
}
