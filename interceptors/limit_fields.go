package interceptors

import (
	"math"
	"math/bits"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/policy"
)

// appendField appends the value of a field to a key. It is not ok if the message is of a type that the path does not fit.
func appendField(key ratelimit.Key, path policy.Path, m protoreflect.Message) (_ ratelimit.Key, ok bool) {
	v, ok := path.Value(m)
	if !ok {
		return nil, false
	}
	switch path.Field().Kind() {
	case protoreflect.StringKind:
		return key.Text(v.String()), true
	case protoreflect.BytesKind:
		return key.Bytes(v.Bytes()), true
	case protoreflect.BoolKind:
		if v.Bool() {
			return key.Uint(1), true
		}
		return key.Uint(0), true
	case protoreflect.EnumKind:
		return key.Int(int64(v.Enum())), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return key.Uint(v.Uint()), true
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Int64Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed64Kind:
		return key.Int(v.Int()), true
	default:
		return nil, false // The policy compiles no path to any other kind.
	}
}

// currency reads the currency of the amount that the limit is for. It is not ok if the message is of another type.
func (one *limit) currency(m proto.Message) (string, bool) {
	path := one.CurrencyField
	if !one.CostIsMoney {
		v, ok := path.Value(m.ProtoReflect())
		if !ok {
			return "", false
		}
		return v.String(), true
	}
	v, ok := one.CostField.Value(m.ProtoReflect())
	if !ok {
		return "", false
	}
	money := v.Message()
	return money.Get(money.Descriptor().Fields().ByName("currency_code")).String(), true
}

// cost returns what the call, or the message, costs. It does not apply to an amount in another currency than the limit's.
func (one *limit) cost(m proto.Message) (cost uint64, applies bool, _ *chain.Refusal) {
	if one.CostField.IsZero() {
		return one.Cost, true, nil
	}
	if one.Currency != "" {
		if currency, ok := one.currency(m); !ok {
			return 0, false, unreadable(one)
		} else if currency != one.Currency {
			return 0, false, nil
		}
	}
	v, ok := one.CostField.Value(m.ProtoReflect())
	if !ok {
		return 0, false, unreadable(one)
	}
	if one.CostIsMoney {
		cost, ok = permitsOf(v.Message(), one.Scale)
	} else {
		cost, ok = integer(one.CostField.Field().Kind(), v)
	}
	if !ok {
		return 0, false, invalidField(one.CostField.String(), "must be a valid amount, and not negative", "negative-cost")
	}
	return cost, true, nil
}

// integer reads a number of permits, which is not ok if it is negative.
func integer(kind protoreflect.Kind, v protoreflect.Value) (_ uint64, ok bool) {
	switch kind {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return v.Uint(), true
	default:
		return uint64(v.Int()), v.Int() >= 0
	}
}

const nanosPerUnit = 1_000_000_000

// permitsOf counts a google.type.Money in permits of which there are scale in a unit of the currency. What is finer counts up; what is
// more than a uint64 holds counts as the most that it holds, which no limit has. It is not ok if the amount is negative, or not as
// google.type.Money says.
func permitsOf(money protoreflect.Message, scale uint64) (_ uint64, ok bool) {
	fields := money.Descriptor().Fields()
	units, nanos := money.Get(fields.ByName("units")).Int(), money.Get(fields.ByName("nanos")).Int()
	if units < 0 || nanos < 0 || nanos >= nanosPerUnit {
		return 0, false
	}
	over, whole := bits.Mul64(uint64(units), scale)
	perPermit := nanosPerUnit / scale
	sum, carry := bits.Add64(whole, (uint64(nanos)+perPermit-1)/perPermit, 0)
	if over != 0 || carry != 0 {
		return math.MaxUint64, true
	}
	return sum, true
}
