// Package shape bounds what a message can be made of: how deep messages nest, and how many elements a list or a map has. A few
// bytes on the wire can stand for a message that is dear to walk through, and validation and handlers walk.
package shape

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Limits is what a message may be. 0: not limited.
type Limits struct {
	// Depth is how deep messages nest, the message itself being 1.
	Depth int
	// Items is how many elements any one repeated or map field has.
	Items int
}

// Excess is what a message has too much of.
type Excess uint8

// The excesses.
const (
	// None: the message is within its limits.
	None Excess = iota
	// TooDeep: messages nest deeper than allowed.
	TooDeep
	// TooMany: a repeated or map field has more elements than allowed.
	TooMany
)

// Checker checks messages of one type. It is safe for concurrent use.
//
// What has not been decoded is not looked into: the value of a google.protobuf.Any, and fields that this program does not know.
type Checker struct {
	limits Limits
	// visit has the types in which something can be found; a message of another type is passed over with all that is in it.
	visit map[protoreflect.FullName]bool
	root  protoreflect.FullName
}

// New returns a Checker for messages of type t.
func New(t protoreflect.MessageDescriptor, limits Limits) *Checker {
	c := &Checker{limits: limits, visit: make(map[protoreflect.FullName]bool), root: t.FullName()}
	types := reachable(t)
	for _, m := range types {
		c.visit[m.FullName()] = limits.Depth > 0 && depthOf(t, limits.Depth+1) > limits.Depth || limits.Items > 0 && holdsItems(reachable(m))
	}
	return c
}

// Check returns what m has too much of.
func (c *Checker) Check(m protoreflect.Message) Excess {
	if m.Descriptor().FullName() == c.root && !c.visit[c.root] {
		return None
	}
	return c.check(m, 1)
}

func (c *Checker) check(m protoreflect.Message, depth int) (found Excess) {
	if c.limits.Depth > 0 && depth > c.limits.Depth {
		return TooDeep
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		inner := field.Message()
		switch {
		case field.IsMap():
			entries := v.Map()
			if c.tooMany(entries.Len()) {
				found = TooMany
				return false
			}
			if inner = field.MapValue().Message(); inner != nil && c.enter(inner) {
				entries.Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = c.check(v.Message(), depth+1)
					return found == None
				})
			}
		case field.IsList():
			list := v.List()
			if c.tooMany(list.Len()) {
				found = TooMany
				return false
			}
			for i := 0; i < list.Len() && inner != nil && c.enter(inner) && found == None; i++ {
				found = c.check(list.Get(i).Message(), depth+1)
			}
		case inner != nil && c.enter(inner):
			found = c.check(v.Message(), depth+1)
		}
		return found == None
	})
	return found
}

// enter reports whether something can be found in a message of type t. Types that were not there at the start, as those of
// extensions, are looked into.
func (c *Checker) enter(t protoreflect.MessageDescriptor) bool {
	visit, known := c.visit[t.FullName()]
	return visit || !known
}

func (c *Checker) tooMany(n int) bool { return c.limits.Items > 0 && n > c.limits.Items }

// fieldTypes calls yield with the type of every field of m that holds messages; those of a map are its values.
func fieldTypes(m protoreflect.MessageDescriptor, yield func(protoreflect.MessageDescriptor)) {
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		if field.IsMap() {
			field = field.MapValue()
		}
		if t := field.Message(); t != nil {
			yield(t)
		}
	}
}

// reachable returns t and all types that a message of type t can hold.
func reachable(t protoreflect.MessageDescriptor) []protoreflect.MessageDescriptor {
	seen := map[protoreflect.FullName]bool{t.FullName(): true}
	all := []protoreflect.MessageDescriptor{t}
	for i := 0; i < len(all); i++ {
		fieldTypes(all[i], func(m protoreflect.MessageDescriptor) {
			if !seen[m.FullName()] {
				seen[m.FullName()] = true
				all = append(all, m)
			}
		})
	}
	return all
}

// depthOf returns how deep messages of type t can nest, most at the most.
func depthOf(t protoreflect.MessageDescriptor, most int) int {
	// The types that can stand at each depth. Their number is bounded, so looking at each depth once does not take for ever.
	level := []protoreflect.MessageDescriptor{t}
	for depth := 1; ; depth++ {
		next := make(map[protoreflect.FullName]protoreflect.MessageDescriptor)
		for _, m := range level {
			if m.ExtensionRanges().Len() > 0 {
				return most // An extension can hold anything.
			}
			fieldTypes(m, func(inner protoreflect.MessageDescriptor) { next[inner.FullName()] = inner })
		}
		if len(next) == 0 || depth >= most {
			return depth
		}
		level = level[:0]
		for _, m := range next {
			level = append(level, m)
		}
	}
}

func holdsItems(types []protoreflect.MessageDescriptor) bool {
	for _, t := range types {
		if t.ExtensionRanges().Len() > 0 {
			return true
		}
		for i := range t.Fields().Len() {
			if t.Fields().Get(i).IsList() || t.Fields().Get(i).IsMap() {
				return true
			}
		}
	}
	return false
}
