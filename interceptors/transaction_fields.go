package interceptors

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// maxValue is what a record holds of one text. A longer one is refused rather than cut: two transactions must not look alike.
const maxValue = 1 << 10

// readTransaction reads what the records of a transaction have. A refusal names the field, and nothing of its value.
func readTransaction(t *policy.Transaction, m proto.Message, redact *audit.Redactor) (audit.Transaction, *chain.Refusal) {
	r := transactionFields{m: m.ProtoReflect(), redact: redact, at: t.At}
	out := audit.Transaction{ID: r.text(t.ID), FromAccount: r.text(t.FromAccount), ToAccount: r.text(t.ToAccount)}
	if out.ID == "" {
		r.refuse(t.ID, "must not be empty")
	}
	switch t.Form {
	case policy.AmountNone:
	case policy.AmountMoney:
		out.Amount, out.Currency = r.money(t.Amount)
	case policy.AmountMinorUnits:
		out.Amount, out.MinorUnits = r.seal(t.Amount, r.integer(t.Amount)), true
		out.Currency = r.currency(t)
	case policy.AmountDecimal:
		out.Amount = r.text(t.Amount)
		if v, ok := t.Amount.Value(r.m); ok && !decimal.MatchString(v.String()) {
			r.refuse(t.Amount, "must be a decimal number")
		}
		out.Currency = r.currency(t)
	}
	if r.refusal != nil {
		return audit.Transaction{}, r.refusal
	}
	return out, nil
}

// decimal is a number that a record can hold to the last digit.
var decimal = regexp.MustCompile(`^-?[0-9]{1,38}(\.[0-9]{1,18})?$`)

type transactionFields struct {
	m       protoreflect.Message
	redact  *audit.Redactor
	at      string
	refusal *chain.Refusal
}

func (r *transactionFields) refuse(p policy.Path, why string) {
	if r.refusal == nil {
		r.refusal = invalidField(p.String(), why, "invalid-transaction")
	}
}

func (r *transactionFields) value(p policy.Path) (protoreflect.Value, bool) {
	if p.IsZero() {
		return protoreflect.Value{}, false
	}
	v, ok := p.Value(r.m)
	if !ok && r.refusal == nil {
		r.refusal = chain.RefuseWith(codes.Internal, "internal error", "unreadable-message", r.at+": the message is of another type than the policy was compiled for")
	}
	return v, ok
}

// seal hides a value that is sensitive.
func (r *transactionFields) seal(p policy.Path, text string) string {
	if p.Sensitive() {
		return r.redact.Text(text)
	}
	return text
}

func (r *transactionFields) text(p policy.Path) string {
	v, ok := r.value(p)
	if !ok {
		return ""
	}
	text := ""
	switch p.Field().Kind() {
	case protoreflect.StringKind:
		text = v.String()
	case protoreflect.BytesKind:
		text = hex.EncodeToString(v.Bytes())
	default:
		if text = r.integer(p); text == "0" {
			text = "" // Where the field is not set, it reads as 0.
		}
	}
	if len(text) > maxValue {
		r.refuse(p, "is too long to be recorded")
	}
	return r.seal(p, text)
}

func (r *transactionFields) integer(p policy.Path) string {
	v, ok := r.value(p)
	if !ok {
		return ""
	}
	switch p.Field().Kind() {
	case protoreflect.EnumKind:
		return strconv.FormatInt(int64(v.Enum()), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.FormatUint(v.Uint(), 10)
	default:
		return strconv.FormatInt(v.Int(), 10)
	}
}

func (r *transactionFields) currency(t *policy.Transaction) string {
	v, ok := r.value(t.CurrencyField)
	if !ok {
		return t.Currency
	}
	if !isCurrency(v.String()) {
		r.refuse(t.CurrencyField, "must be a currency")
	}
	return r.seal(t.CurrencyField, v.String())
}

func isCurrency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// money reads a google.type.Money, of which the annotation's source says that units and nanos have one sign.
func (r *transactionFields) money(p policy.Path) (amount, currency string) {
	v, ok := r.value(p)
	if !ok {
		return "", ""
	}
	m := v.Message()
	fields := m.Descriptor().Fields()
	units, nanos := m.Get(fields.ByName("units")).Int(), m.Get(fields.ByName("nanos")).Int()
	currency = m.Get(fields.ByName("currency_code")).String()
	if !isCurrency(currency) || nanos <= -nanosPerUnit || nanos >= nanosPerUnit || units > 0 && nanos < 0 || units < 0 && nanos > 0 {
		r.refuse(p, "must be a valid amount")
		return "", ""
	}
	text := strconv.FormatInt(units, 10)
	if nanos != 0 {
		digits := strconv.FormatInt(max(nanos, -nanos)+nanosPerUnit, 10)[1:]
		if units == 0 && nanos < 0 {
			text = "-0"
		}
		text += "." + strings.TrimRight(digits, "0")
	}
	return r.seal(p, text), r.seal(p, currency)
}
