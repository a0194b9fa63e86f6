package validate

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// equality takes const, in and not_in.
func equality[T comparable](rules leftRules, get func(protoreflect.Value) T) []check {
	var checks []check
	if v, is := rules.take("const"); is {
		want := get(v)
		checks = append(checks, func(v protoreflect.Value) bool { return get(v) == want })
	}
	if set := setOf(rules.takeAll("in"), get); set != nil {
		checks = append(checks, func(v protoreflect.Value) bool { return set[get(v)] })
	}
	if set := setOf(rules.takeAll("not_in"), get); set != nil {
		checks = append(checks, func(v protoreflect.Value) bool { return !set[get(v)] })
	}
	return checks
}

func setOf[T comparable](values []protoreflect.Value, get func(protoreflect.Value) T) map[T]bool {
	if len(values) == 0 {
		return nil
	}
	set := make(map[T]bool, len(values))
	for _, v := range values {
		set[get(v)] = true
	}
	return set
}

// bounds takes gt, gte, lt and lte. Two that exclude each other mean "outside of", and are left. What is compared is what must hold, so
// that a value which is no number keeps none.
func bounds[T int64 | uint64 | float64](rules leftRules, get func(protoreflect.Value) T) []check {
	bound := func(exclusive, inclusive protoreflect.Name) (limit T, is, strict bool) {
		d := rules.Descriptor().Fields()
		switch {
		case rules.Has(d.ByName(exclusive)):
			return get(rules.Get(d.ByName(exclusive))), true, true
		case rules.Has(d.ByName(inclusive)):
			return get(rules.Get(d.ByName(inclusive))), true, false
		}
		return limit, false, false
	}
	low, hasLow, lowStrict := bound("gt", "gte")
	high, hasHigh, highStrict := bound("lt", "lte")
	if math.IsNaN(float64(low)) || math.IsNaN(float64(high)) || hasLow && hasHigh && high < low {
		return nil
	}
	for _, name := range []protoreflect.Name{"gt", "gte", "lt", "lte"} {
		rules.take(name)
	}
	var checks []check
	switch {
	case hasLow && lowStrict:
		checks = append(checks, func(v protoreflect.Value) bool { return get(v) > low })
	case hasLow:
		checks = append(checks, func(v protoreflect.Value) bool { return get(v) >= low })
	}
	switch {
	case hasHigh && highStrict:
		checks = append(checks, func(v protoreflect.Value) bool { return get(v) < high })
	case hasHigh:
		checks = append(checks, func(v protoreflect.Value) bool { return get(v) <= high })
	}
	return checks
}

func enumChecks(d protoreflect.EnumDescriptor, rules leftRules) []check {
	number := func(v protoreflect.Value) int64 {
		if n, isEnum := v.Interface().(protoreflect.EnumNumber); isEnum {
			return int64(n)
		}
		return v.Int() // in a rule it is an int32
	}
	checks := equality(rules, number)
	if v, is := rules.take("defined_only"); is && v.Bool() {
		defined := d.Values()
		checks = append(checks, func(v protoreflect.Value) bool { return defined.ByNumber(v.Enum()) != nil })
	}
	return checks
}

// lengths is the least and the most of something.
type lengths struct{ least, most uint64 }

func (l lengths) hold(n int) bool { return uint64(n) >= l.least && uint64(n) <= l.most }

// takeLengths takes a rule on an exact length, one on the least and one on the most; false if there is none.
func takeLengths(rules leftRules, exact, least, most protoreflect.Name) (lengths, bool) {
	l := lengths{most: math.MaxUint64}
	ofExact, isExact := rules.take(exact)
	ofLeast, isLeast := rules.take(least)
	ofMost, isMost := rules.take(most)
	if isLeast {
		l.least = ofLeast.Uint()
	}
	if isMost {
		l.most = ofMost.Uint()
	}
	if isExact {
		l.least, l.most = max(l.least, ofExact.Uint()), min(l.most, ofExact.Uint())
	}
	return l, isExact || isLeast || isMost
}

func bytesChecks(rules leftRules) []check {
	var checks []check
	if l, is := takeLengths(rules, "len", "min_len", "max_len"); is {
		checks = append(checks, func(v protoreflect.Value) bool { return l.hold(len(v.Bytes())) })
	}
	if v, is := rules.take("prefix"); is {
		start := v.Bytes()
		checks = append(checks, func(v protoreflect.Value) bool { return bytes.HasPrefix(v.Bytes(), start) })
	}
	return checks
}

// parts are the rules on a part of a string.
var parts = []struct {
	name  protoreflect.Name
	holds func(s, part string) bool
}{
	{"prefix", strings.HasPrefix},
	{"suffix", strings.HasSuffix},
	{"contains", strings.Contains},
	{"not_contains", func(s, part string) bool { return !strings.Contains(s, part) }},
}

func stringChecks(rules leftRules) []check {
	var checks []check
	if l, is := takeLengths(rules, "len", "min_len", "max_len"); is {
		checks = append(checks, func(v protoreflect.Value) bool { return l.hold(utf8.RuneCountInString(v.String())) })
	}
	if l, is := takeLengths(rules, "len_bytes", "min_bytes", "max_bytes"); is {
		checks = append(checks, func(v protoreflect.Value) bool { return l.hold(len(v.String())) })
	}
	checks = append(checks, equality(rules, protoreflect.Value.String)...)
	for _, rule := range parts {
		if v, is := rules.take(rule.name); is {
			part := v.String()
			checks = append(checks, func(v protoreflect.Value) bool { return rule.holds(v.String(), part) })
		}
	}
	if v, is := rules.take("pattern"); is {
		checks = append(checks, patternCheck(v.String()))
	}
	return checks
}

// patternCheck matches by hand what is simple enough, and has the library do the rest.
func patternCheck(source string) check {
	if simple, is := parsePattern(source); is {
		return func(v protoreflect.Value) bool { return simple.match(v.String()) }
	}
	compiled, err := regexp.Compile(source)
	if err != nil {
		return func(protoreflect.Value) bool { return false }
	}
	return func(v protoreflect.Value) bool { return compiled.MatchString(v.String()) }
}
