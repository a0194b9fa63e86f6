package validate

import (
	"cmp"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// expression reports whether a message certainly keeps a rule that is written in CEL.
type expression func(protoreflect.Message) bool

// parseExpression returns source as an expression; nil if it is more than comparisons of the fields of t with each other and with constants,
// put together by and, or and not. None of these can fail, so their order does not matter.
func parseExpression(t protoreflect.MessageDescriptor, source string) expression {
	if hidesThis(t.ParentFile(), make(map[string]bool)) {
		return nil
	}
	p, err := parser.NewParser(parser.Macros(parser.AllMacros...))
	if err != nil {
		return nil
	}
	parsed, errs := p.Parse(common.NewTextSource(source))
	if len(errs.GetErrors()) > 0 {
		return nil
	}
	return truth(t, parsed.Expr())
}

// truth is parseExpression for a part that is true or false.
func truth(t protoreflect.MessageDescriptor, e ast.Expr) expression {
	if e.Kind() != ast.CallKind {
		return operand(t, e, boolOf)
	}
	call := e.AsCall()
	if call.IsMemberFunction() {
		return nil
	}
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalNot:
		if one := truth(t, args[0]); one != nil {
			return func(m protoreflect.Message) bool { return !one(m) }
		}
	case operators.LogicalAnd:
		if a, b := truth(t, args[0]), truth(t, args[1]); a != nil && b != nil {
			return func(m protoreflect.Message) bool { return a(m) && b(m) }
		}
	case operators.LogicalOr:
		if a, b := truth(t, args[0]), truth(t, args[1]); a != nil && b != nil {
			return func(m protoreflect.Message) bool { return a(m) || b(m) }
		}
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return comparison(t, call.FunctionName(), args[0], args[1])
	}
	return nil
}

// comparison is truth for two values of one type.
func comparison(t protoreflect.MessageDescriptor, operator string, a, b ast.Expr) expression {
	if e := compare(operator, operand(t, a, intOf), operand(t, b, intOf)); e != nil {
		return e
	}
	if e := compare(operator, operand(t, a, uintOf), operand(t, b, uintOf)); e != nil {
		return e
	}
	x, y := operand(t, a, stringOf), operand(t, b, stringOf)
	if operator == operators.Equals || operator == operators.NotEquals {
		return compare(operator, x, y)
	}
	return nil
}

func compare[T cmp.Ordered](operator string, a, b func(protoreflect.Message) T) expression {
	if a == nil || b == nil {
		return nil
	}
	switch operator {
	case operators.Equals:
		return func(m protoreflect.Message) bool { return a(m) == b(m) }
	case operators.NotEquals:
		return func(m protoreflect.Message) bool { return a(m) != b(m) }
	case operators.Less:
		return func(m protoreflect.Message) bool { return a(m) < b(m) }
	case operators.LessEquals:
		return func(m protoreflect.Message) bool { return a(m) <= b(m) }
	case operators.Greater:
		return func(m protoreflect.Message) bool { return a(m) > b(m) }
	case operators.GreaterEquals:
		return func(m protoreflect.Message) bool { return a(m) >= b(m) }
	}
	return nil
}

// celType is a type of CEL's as it is in a message and as a constant.
type celType[T any] struct {
	kinds    []protoreflect.Kind
	field    func(protoreflect.Value) T
	constant func(any) (T, bool)
}

var (
	boolOf = celType[bool]{
		[]protoreflect.Kind{protoreflect.BoolKind}, protoreflect.Value.Bool,
		func(v any) (bool, bool) { b, is := v.(types.Bool); return bool(b), is },
	}
	stringOf = celType[string]{
		[]protoreflect.Kind{protoreflect.StringKind}, protoreflect.Value.String,
		func(v any) (string, bool) { s, is := v.(types.String); return string(s), is },
	}
	intOf = celType[int64]{
		[]protoreflect.Kind{
			protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind,
			protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind,
		}, protoreflect.Value.Int,
		func(v any) (int64, bool) { n, is := v.(types.Int); return int64(n), is },
	}
	uintOf = celType[uint64]{
		[]protoreflect.Kind{protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind},
		protoreflect.Value.Uint,
		func(v any) (uint64, bool) { n, is := v.(types.Uint); return uint64(n), is },
	}
)

// operand returns a constant or a field of the message itself, of the type that is given; nil if e is neither.
func operand[T any](t protoreflect.MessageDescriptor, e ast.Expr, of celType[T]) func(protoreflect.Message) T {
	switch e.Kind() {
	case ast.LiteralKind:
		if value, is := of.constant(e.AsLiteral()); is {
			return func(protoreflect.Message) T { return value }
		}
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() || s.Operand().Kind() != ast.IdentKind || s.Operand().AsIdent() != "this" {
			return nil
		}
		d := t.Fields().ByName(protoreflect.Name(s.FieldName()))
		if d == nil || d.IsList() || d.IsMap() || d.HasDefault() {
			return nil
		}
		for _, kind := range of.kinds {
			if d.Kind() == kind {
				return func(m protoreflect.Message) T { return of.field(m.Get(d)) }
			}
		}
	default: // more than an operand
	}
	return nil
}

// hidesThis reports whether an enum of a file, or of one that it imports, is called "this", without a package: CEL then takes this.x for a value of
// that enum and not for the message's field x.
func hidesThis(file protoreflect.FileDescriptor, seen map[string]bool) bool {
	if seen[file.Path()] {
		return false
	}
	seen[file.Path()] = true
	if file.Package() == "" && file.Enums().ByName("this") != nil {
		return true
	}
	for i := range file.Imports().Len() {
		if hidesThis(file.Imports().Get(i).FileDescriptor, seen) {
			return true
		}
	}
	return false
}
