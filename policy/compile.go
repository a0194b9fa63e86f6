package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Load reads a policy file and compiles it together with the annotations in descs.
func Load(path string, descs ...protoreflect.FileDescriptor) (*Policy, error) {
	file, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Compile(file, descs...)
}

// Compile makes a policy of the annotations in descs and of a policy file. The file may be nil: callers can then only be
// SPIFFE IDs and patterns, since names are bound in the file.
//
// Services that the file names are looked for in descs, and then among the descriptors that are linked into the program, so
// that a service without annotations, such as grpc.health.v1.Health, can have its rule in the file.
//
// The error joins an [Error] for each thing that is wrong.
func Compile(file *File, descs ...protoreflect.FileDescriptor) (*Policy, error) {
	if file == nil {
		file = &File{name: "(no policy file)", proto: &grpcguardv1.PolicyFile{}}
	}
	c := &compiler{
		file:     file,
		services: make(map[string]protoreflect.ServiceDescriptor),
		names:    make(map[string][]binding),
		shared:   make(map[string]*access),
		seen:     make(map[protoreflect.FullName]bool),
		kinds:    make(map[string]protoreflect.FieldDescriptor),
		settings: make(map[settings]*settings),
		controls: make(map[*Rule][]proto.Message),
	}
	c.collect(descs)
	c.bindNames()
	c.compileDenyList()
	c.resolveFileEntries()
	p := &Policy{
		revision: file.proto.GetRevision(), rules: make(map[string]*Rule), services: c.services, file: file.name, names: c.patterns(), denyList: c.denyList,
	}
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		c.compileService(c.services[name], p)
	}
	if err := c.found.err(); err != nil {
		return nil, err
	}
	p.hash = hashPolicy(p, c.denied, c.controls)
	return p, nil
}

type compiler struct {
	file     *File
	found    problems
	services map[string]protoreflect.ServiceDescriptor
	names    map[string][]binding
	denyList *denyList
	denied   []string // the deny list in canonical form
	shared   map[string]*access
	seen     map[protoreflect.FullName]bool
	kinds    map[string]protoreflect.FieldDescriptor // of key fields, by limit and path
	settings map[settings]*settings
	controls map[*Rule][]proto.Message // what the hash has of a rule beside its other parts
}

// binding is one SPIFFE ID or pattern that a name stands for.
type binding struct {
	pattern Pattern
	at      place
}

// declared is one Rule and where it is written. Its at takes a path below the rule.
type declared struct {
	rule     *grpcguardv1.Rule
	at       func(...any) place
	ofMethod bool // it is one method's and not a service's
}

func (c *compiler) collect(descs []protoreflect.FileDescriptor) {
	for i, d := range descs {
		if d == nil {
			c.found.addf(place{Error{File: fmt.Sprintf("descriptor %d", i)}}, "is nil")
			continue
		}
		for i := range d.Services().Len() {
			s := d.Services().Get(i)
			name := string(s.FullName())
			if other := c.services[name]; other != nil && other != s {
				c.found.addf(annotationPlace(s, "service "+name), "is declared in %s too", other.ParentFile().Path())
				continue
			}
			c.services[name] = s
		}
	}
}

func (c *compiler) bindNames() {
	for _, name := range slices.Sorted(maps.Keys(c.file.proto.GetNames())) {
		given := make(map[string]bool)
		c.names[name] = []binding{}
		for i, text := range c.file.proto.GetNames()[name].GetSpiffeIds() {
			at := c.file.at("names", name, "spiffe_ids", i)
			pattern, err := ParsePattern(text)
			switch {
			case err != nil:
				c.found.addf(at, "%v", err)
				continue
			case given[text]:
				c.found.addf(at, "%q is given twice", text)
			}
			given[text] = true
			c.names[name] = append(c.names[name], binding{pattern, at})
		}
	}
}

// patterns returns what names stand for, without where that is written.
func (c *compiler) patterns() map[string][]Pattern {
	names := make(map[string][]Pattern, len(c.names))
	for name, bound := range c.names {
		patterns := make([]Pattern, len(bound))
		for i := range bound {
			patterns[i] = bound[i].pattern
		}
		names[name] = patterns
	}
	return names
}

func (c *compiler) compileDenyList() {
	c.denyList = &denyList{serials: make(map[string]*Decision)}
	for i, entry := range c.file.proto.GetDenyList() {
		at := c.file.at("deny_list", i)
		d := &Decision{Reason: ReasonDenyList, Rule: at.String()}
		if why := entry.GetReason(); why != "" {
			d.Rule += " (" + why + ")"
		}
		switch who := entry.GetWho().(type) {
		case *grpcguardv1.DenyListEntry_SpiffeId:
			p, err := ParsePattern(who.SpiffeId)
			if err != nil {
				c.found.addf(at.option(".spiffe_id"), "%v", err)
				continue
			}
			c.denyList.callers.add(p, d)
			c.denied = append(c.denied, p.String())
		case *grpcguardv1.DenyListEntry_Serial:
			if c.denyList.serials[who.Serial] == nil {
				c.denyList.serials[who.Serial] = d
			}
			c.denied = append(c.denied, who.Serial)
		}
	}
}

// resolveFileEntries finds the service of every entry in the file's services and methods.
func (c *compiler) resolveFileEntries() {
	for _, name := range slices.Sorted(maps.Keys(c.file.proto.GetServices())) {
		if c.service(name) == nil {
			c.found.addf(c.file.at("services", name), "no such service, neither given nor linked into the program%s", suggestion(name, slices.Sorted(maps.Keys(c.services))))
		}
	}
	for _, method := range slices.Sorted(maps.Keys(c.file.proto.GetMethods())) {
		at := c.file.at("methods", method)
		service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
		if !ok || !strings.HasPrefix(method, "/") {
			c.found.addf(at, `a method is written as "/package.Service/Method"`)
			continue
		}
		s := c.service(service)
		if s == nil {
			c.found.addf(at, "no such service, neither given nor linked into the program%s", suggestion(service, slices.Sorted(maps.Keys(c.services))))
			continue
		}
		if s.Methods().ByName(protoreflect.Name(name)) == nil {
			var methods []string
			for i := range s.Methods().Len() {
				methods = append(methods, fullMethod(s.Methods().Get(i)))
			}
			c.found.addf(at, "no such method%s", suggestion(method, methods))
		}
	}
}

// service returns the descriptor of a service, of descs or linked into the program.
func (c *compiler) service(name string) protoreflect.ServiceDescriptor {
	if s := c.services[name]; s != nil {
		return s
	}
	if !protoreflect.FullName(name).IsValid() {
		return nil
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	c.services[name] = s
	return s
}

func fullMethod(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

func (c *compiler) compileService(s protoreflect.ServiceDescriptor, p *Policy) {
	name := string(s.FullName())
	var ofService, ofServiceInFile []declared
	rule, err := serviceRule(s)
	at := annotationPlace(s, "service "+name)
	if err != nil {
		c.found.addf(at, "%v", err)
	} else if rule != nil {
		ofService = c.declare(ofService, rule, annotationAt(at.option("(grpcguard.v1.service)")))
	}
	if rule := c.file.proto.GetServices()[name]; rule != nil {
		ofServiceInFile = c.declare(ofServiceInFile, rule, c.fileAt("services", name))
	}
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		full := fullMethod(m)
		// The more specific a rule, the later: what the API says of one method is not undone by what a file says of the service.
		rules := slices.Concat(ofService, ofServiceInFile)
		rule, err := methodRule(m)
		at := annotationPlace(m, full)
		if err != nil {
			c.found.addf(at, "%v", err)
		} else if rule != nil {
			rules = c.declareFor(m, rules, rule, annotationAt(at.option("(grpcguard.v1.method)")))
		}
		if rule := c.file.proto.GetMethods()[full]; rule != nil {
			rules = c.declareFor(m, rules, rule, c.fileAt("methods", full))
		}
		c.refuseUnenforcedMessages(m.Input())
		c.refuseUnenforcedMessages(m.Output())
		all := merge(rules)
		c.checkWindow(rules, all)
		if r := c.compileMethod(full, m, all); r != nil {
			p.rules[full] = r
		}
	}
}

// annotationAt returns the places below a rule in an annotation.
func annotationAt(rule place) func(...any) place {
	return func(path ...any) place {
		at := rule
		for _, step := range path {
			switch step := step.(type) {
			case int:
				at = at.option("[%d]", step)
			case string:
				at = at.option(".%s", step)
			}
		}
		return at
	}
}

// fileAt returns the places below a rule in the policy file.
func (c *compiler) fileAt(path ...any) func(...any) place {
	return func(below ...any) place { return c.file.at(slices.Concat(path, below)...) }
}

// declare adds a rule that holds by itself to rules, and notes what is wrong with it.
func (c *compiler) declare(rules []declared, rule *grpcguardv1.Rule, at func(...any) place) []declared {
	c.refuseUnenforced(rule, enforced, at)
	validator, err := schemaRules()
	if err == nil {
		err = validator.Validate(rule)
	}
	var invalid *protovalidate.ValidationError
	switch {
	case errors.As(err, &invalid):
		for _, v := range invalid.Violations {
			where := at()
			if field := protovalidate.FieldPathString(v.Proto.GetField()); field != "" {
				where = where.option(".%s", field)
			}
			c.found.addf(where, "%s", v.Proto.GetMessage())
		}
	case err != nil:
		c.found.addf(at(), "%v", err)
	}
	if rule.GetNobody() && len(rule.GetCallers()) > 0 {
		c.found.addf(at("nobody"), "nobody cannot stand beside callers")
	}
	d := declared{rule: rule, at: at}
	c.checkBreaker(d)
	return append(rules, d)
}

// declareFor is declare for the rule of one method.
func (c *compiler) declareFor(m protoreflect.MethodDescriptor, rules []declared, rule *grpcguardv1.Rule, at func(...any) place) []declared {
	rules = c.declare(rules, rule, at)
	d := &rules[len(rules)-1]
	d.ofMethod = true
	c.refuseIdleBudget(m, *d)
	return rules
}
