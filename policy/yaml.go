package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// parseYAML returns the root of the one document in data, nil if there is none, having refused all that is not plain.
func parseYAML(name string, data []byte) (*yaml.Node, error) {
	if at := invalidUTF8(data); at >= 0 {
		return nil, &Error{File: name, Line: 1 + bytes.Count(data[:at], []byte("\n")), Column: at - bytes.LastIndexByte(data[:at], '\n'), Message: "the file is not UTF-8"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // No document, which is no error.
	case err != nil:
		return nil, syntaxError(name, err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, &Error{File: name, Line: second.Line, Column: second.Column, Message: "a second document; a policy file has one"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, err)
	}
	if len(document.Content) != 1 || document.Content[0].Tag == "!!null" && document.Content[0].Value == "" {
		return nil, nil //nolint:nilnil // As above.
	}
	root := document.Content[0]
	if root.Kind == yaml.MappingNode && len(root.Content) == 0 && root.Anchor == "" && root.Style&yaml.TaggedStyle == 0 {
		return nil, nil //nolint:nilnil // As above.
	}
	check := plain{name: name}
	check.message(root, (&grpcguardv1.PolicyFile{}).ProtoReflect().Descriptor())
	return root, check.found.err()
}

// syntaxError takes the line out of the text of the YAML library's error.
func syntaxError(name string, err error) *Error {
	e := &Error{File: name, Column: 1, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if n, _ := fmt.Sscanf(e.Message, "line %d:", &e.Line); n == 1 {
		_, e.Message, _ = strings.Cut(e.Message, ": ")
	}
	return e
}

// plain walks a document along the schema and notes what could be read in two ways.
type plain struct {
	name  string
	found problems
}

func (c *plain) problemf(n *yaml.Node, format string, args ...any) {
	c.found.addf(place{Error{File: c.name, Line: n.Line, Column: n.Column}}, format, args...)
}

// ordinary reports whether n says what it says by itself.
func (c *plain) ordinary(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		c.problemf(n, "anchors and aliases are not taken: write it out")
	case n.Style&yaml.TaggedStyle != 0:
		c.problemf(n, "the tag %s is not taken", n.Tag)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		c.problemf(n, "no value is given")
	default:
		return true
	}
	return false
}

func (c *plain) message(n *yaml.Node, m protoreflect.MessageDescriptor) {
	if !c.ordinary(n) {
		return
	}
	if m.FullName() == "google.protobuf.Duration" {
		if n.Kind != yaml.ScalarNode || n.Value == "" {
			c.problemf(n, `a duration such as "30s" is wanted`)
		}
		return
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		c.problemf(n, "nothing is said here; leave it out")
		return
	}
	c.mapping(n, func(key string, keyNode, value *yaml.Node) {
		field := m.Fields().ByName(protoreflect.Name(key))
		if field == nil {
			c.problemf(keyNode, "unknown key %q%s", key, suggestion(key, fieldNames(m)))
			return
		}
		c.field(value, field)
	})
}

func (c *plain) field(n *yaml.Node, field protoreflect.FieldDescriptor) {
	switch {
	case field.IsMap():
		c.mapping(n, func(_ string, _, value *yaml.Node) { c.single(value, field.MapValue()) })
	case field.IsList():
		if !c.ordinary(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			if n.Kind == yaml.ScalarNode {
				c.problemf(n, "%s is a list: write [%s]", field.Name(), n.Value)
			} else {
				c.problemf(n, "%s is a list", field.Name())
			}
			return
		}
		if len(n.Content) == 0 {
			// Written to close a method, it would do nothing: an empty list overrides no other.
			c.problemf(n, "%s is empty, which says nothing; to close a method write nobody: true", field.Name())
		}
		for _, element := range n.Content {
			c.single(element, field)
		}
	default:
		c.single(n, field)
	}
}

func (c *plain) single(n *yaml.Node, field protoreflect.FieldDescriptor) {
	if m := field.Message(); m != nil {
		c.message(n, m)
		return
	}
	if !c.ordinary(n) {
		return
	}
	if n.Kind != yaml.ScalarNode {
		c.problemf(n, "a single value is wanted")
		return
	}
	c.scalar(n, field)
}

// scalar holds a value to the one way of writing it that all readers of YAML read alike, and refuses values that say nothing.
func (c *plain) scalar(n *yaml.Node, field protoreflect.FieldDescriptor) {
	switch field.Kind() {
	case protoreflect.BoolKind:
		if n.Value != "true" && n.Value != "false" || n.Style != 0 {
			c.problemf(n, "%s is true or false", field.Name())
		} else if n.Value == "false" && !field.HasPresence() {
			c.problemf(n, "%s: false says nothing; leave it out", field.Name())
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if !decimal.MatchString(n.Value) || n.Style != 0 {
			c.problemf(n, "%s is a whole number: write it in plain decimal digits", field.Name())
		} else if _, err := strconv.ParseUint(n.Value, 10, field64or32(field)); err != nil {
			c.problemf(n, "%s is at most %d", field.Name(), uint64(math.MaxUint64)>>(64-field64or32(field)))
		}
	case protoreflect.EnumKind:
		if v := field.Enum().Values().ByName(protoreflect.Name(n.Value)); v != nil && v.Number() == 0 {
			c.problemf(n, "%s: %s says nothing; leave it out", field.Name(), n.Value)
		}
	case protoreflect.StringKind:
		if n.Style == 0 && n.Tag != "!!str" && n.Tag != "!!timestamp" {
			c.problemf(n, "%s is text: write %q in quotes", field.Name(), n.Value)
		}
	default:
	}
}

// decimal leaves out 0100 and 0o100, which are one number to one reader and another to the next.
var decimal = regexp.MustCompile("^(0|[1-9][0-9]*)$")

func field64or32(field protoreflect.FieldDescriptor) int {
	if field.Kind() == protoreflect.Int32Kind || field.Kind() == protoreflect.Uint32Kind {
		return 32
	}
	return 64
}

// invalidUTF8 returns where data stops being UTF-8, -1 if nowhere.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

func (c *plain) mapping(n *yaml.Node, each func(key string, keyNode, value *yaml.Node)) {
	if !c.ordinary(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		c.problemf(n, "keys and values are wanted")
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !c.ordinary(key) {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			c.problemf(key, "a key is a single word")
			continue
		}
		if line, twice := first[key.Value]; twice {
			c.problemf(key, "%q is given twice, first on line %d", key.Value, line)
			continue
		}
		first[key.Value] = key.Line
		each(key.Value, key, value)
	}
}

func fieldNames(m protoreflect.MessageDescriptor) []string {
	names := make([]string, 0, m.Fields().Len())
	for i := range m.Fields().Len() {
		names = append(names, string(m.Fields().Get(i).Name()))
	}
	slices.Sort(names)
	return names
}

// entry returns the key and the value of a mapping's entry, nil if it is not there.
func entry(n *yaml.Node, key string) (keyNode, value *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func item(n *yaml.Node, i int) *yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
		return nil
	}
	return n.Content[i]
}
