package validate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	validatepb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	// What the generated files import.
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// counted is how often the comparison had something to compare.
type counted struct{ types, programs, whole, valid, certain, broken, failed int }

// compareSeed makes a type out of seed, and holds what is said of its messages against what protovalidate alone says.
func compareSeed(t *testing.T, seed uint64, n *counted) {
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	d := g.build(protoregistry.GlobalFiles)
	if d == nil {
		return
	}
	ours, err := New(d)
	if err != nil {
		return
	}
	stock, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	n.types++
	p := ours.fast[d]
	if p != nil {
		n.programs++
	}
	if p.whole() {
		n.whole++
	}
	for range 40 {
		m := g.message(d, 3)
		got, want := said(checked(ours.Check, m)), said(checked(func(m proto.Message) error { return stock.Validate(m) }, m))
		same := slices.Equal(got, want)
		if len(want) > maxViolations || proto.Size(m.Interface()) > maxDetailed {
			same = (len(got) == 0) == (len(want) == 0) // not all violations are reported
		}
		if !same {
			t.Fatalf("seed %d: got %q, want %q, of %s\n%s", seed, got, want, m.Interface(), prototext.Format(protodesc.ToDescriptorProto(d)))
		}
		n.count(want, p, m)
	}
}

func (n *counted) count(want []string, p *program, m protoreflect.Message) {
	switch {
	case len(want) == 0:
		n.valid++
		if p != nil && p.certain(m) {
			n.certain++
		}
	case want[0] == failed:
		n.failed++
	default:
		n.broken++
	}
}

// checked makes an error of a panic: protovalidate 1.4.0 has one for rules on the items of a list of wrappers.
func checked(check func(proto.Message) error, m protoreflect.Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return check(m.Interface())
}

// failed is what is said where a rule could not be evaluated.
const failed = "failed"

// said names the field and the rule of each violation, without keys of maps.
func said(err error) []string {
	if err == nil {
		return nil
	}
	var violations []*validatepb.Violation
	var ours *Violations
	var theirs *protovalidate.ValidationError
	switch {
	case errors.As(err, &ours):
		violations = ours.Proto.GetViolations()
	case errors.As(err, &theirs):
		violations = theirs.ToProto().GetViolations()
	default:
		return []string{failed}
	}
	var names []string
	for _, v := range violations {
		names = append(names, protovalidate.FieldPathString(withoutKeys(v.GetField()))+" "+v.GetRuleId())
	}
	slices.Sort(names)
	return names
}

// What is said of a message is what protovalidate says, whatever the rules are.
func TestVerdictsAreThoseOfProtovalidate(t *testing.T) {
	t.Parallel()
	var n counted
	for seed := range uint64(500) {
		compareSeed(t, seed, &n)
	}
	t.Logf("%+v", n)
	for name, count := range map[string]int{
		"programs": n.programs, "programs for all rules": n.whole, "programs for some": n.programs - n.whole, "types without": n.types - n.programs,
		"messages that keep their rules": n.valid, "of which it was certain": n.certain, "and not": n.valid - n.certain, "that break some": n.broken, "failures": n.failed,
	} {
		if count < 10 {
			t.Errorf("%s: %d", name, count)
		}
	}
}

func FuzzVerdicts(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareSeed(t, seed, &counted{}) })
}

// Each rule on a text alone, against each text: what is rare among made-up types is tried here for certain.
func TestVerdictsOnTexts(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"min_len: 2", "min_len: 4", "max_len: 1", "max_len: 3", "len: 1", "len: 3", "min_bytes: 2", "max_bytes: 3", "len_bytes: 2", "prefix: 'a'", "suffix: 'b'",
		"contains: 'b'", "not_contains: 'b'", "const: 'ab'", "in: 'a' in: 'ab'", "not_in: 'a' not_in: '€uro'", "len: 2 min_len: 3", "min_len: 3 max_len: 2",
	} {
		d := typeOf(t, `field { name: "f" number: 1 type: TYPE_STRING options { [buf.validate.field] { string { `+rule+` } } } }`)
		ours, err := New(d)
		if err != nil {
			t.Fatal(err)
		}
		stock, err := protovalidate.New()
		if err != nil {
			t.Fatal(err)
		}
		if !ours.fast[d].whole() {
			t.Errorf("%s is not understood", rule)
		}
		for _, s := range someStrings {
			m := dynamicpb.NewMessage(d)
			m.Set(d.Fields().Get(0), protoreflect.ValueOfString(s))
			if got, want := said(ours.Check(m)), said(stock.Validate(m)); !slices.Equal(got, want) {
				t.Errorf("%s, %q: got %q, want %q", rule, s, got, want)
			}
			if valid := stock.Validate(m) == nil; ours.fast[d].certain(m) != valid {
				t.Errorf("%s, %q: certain is not %v", rule, s, valid)
			}
		}
	}
}
