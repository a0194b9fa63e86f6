package policy

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// File is a policy file that was read and keeps to its schema, grpcguard.v1.PolicyFile. What its names refer to is checked by
// [Compile].
type File struct {
	name  string
	proto *grpcguardv1.PolicyFile
	root  *yaml.Node // nil for an empty file
}

// maxFileBytes is far beyond any policy that people keep, and far below what would hurt.
const maxFileBytes = 16 << 20

// ReadFile reads and parses a policy file of at most 16 MiB.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, &Error{File: path, Message: fmt.Sprintf("the file is larger than %d MiB", maxFileBytes>>20)}
	}
	return ParseFile(path, data)
}

// ParseFile parses a policy file; name stands for it in errors. An empty file is a policy file that says nothing.
//
// YAML lets a file mean something else than it seems to mean. What could is refused: keys that the schema does not have, keys
// given twice, keys without a value, aliases, anchors, tags and a second document.
func ParseFile(name string, data []byte) (*File, error) {
	f := &File{name: name, proto: &grpcguardv1.PolicyFile{}}
	if len(data) > maxFileBytes {
		return nil, &Error{File: name, Message: fmt.Sprintf("the file is larger than %d MiB", maxFileBytes>>20)}
	}
	root, err := parseYAML(name, data)
	if err != nil || root == nil {
		return f, err
	}
	f.root = root
	validator, err := schemaRules()
	if err != nil {
		return nil, err
	}
	if err := (protoyaml.UnmarshalOptions{Path: name, Validator: plainValidator{validator}}).Unmarshal(data, f.proto); err != nil {
		var found problems
		for _, one := range split(err) {
			found = append(found, f.readable(one))
		}
		return nil, found.err()
	}
	return f, nil
}

// schemaRules holds the protovalidate rules of the schema, for the file and for annotations.
var schemaRules = sync.OnceValues(func() (protovalidate.Validator, error) {
	return protovalidate.New(protovalidate.WithMessages(&grpcguardv1.PolicyFile{}, &grpcguardv1.Rule{}), protovalidate.WithDisableLazy())
})

// plainValidator is a protovalidate.Validator in the form that protoyaml takes.
type plainValidator struct{ rules protovalidate.Validator }

func (v plainValidator) Validate(m proto.Message) error { return v.rules.Validate(m) }

// split takes joined errors apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// readable takes position and message out of an error of protoyaml, and leaves the excerpt of the file behind.
func (f *File) readable(err error) *Error {
	e := &Error{File: f.name}
	e.Message, _, _ = strings.Cut(err.Error(), "\n")
	if at, ok := strings.CutPrefix(e.Message, f.name+":"); ok {
		if n, _ := fmt.Sscanf(at, "%d:%d", &e.Line, &e.Column); n == 2 {
			_, e.Message, _ = strings.Cut(at, " ")
		}
	}
	return e
}

// at returns the place of what path leads to: keys of mappings, and indices of sequences. Where the path ends early, it is the
// place of the last part that is there.
func (f *File) at(path ...any) place {
	p := place{Error{File: f.name}}
	node := f.root
	if node != nil {
		p.Line, p.Column = node.Line, node.Column
	}
	for i, step := range path {
		switch step := step.(type) {
		case int:
			p.Option += fmt.Sprintf("[%d]", step)
			if node = item(node, step); node != nil {
				p.Line, p.Column = node.Line, node.Column
			}
		case string:
			switch i {
			case 0:
				p.Option = step
			case 1:
				p.Option += fmt.Sprintf("[%q]", step)
			default:
				p.Option += "." + step
			}
			var key *yaml.Node
			if key, node = entry(node, step); key != nil {
				p.Line, p.Column = key.Line, key.Column
			}
		}
	}
	return p
}
