package interceptors

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
	"github.com/grpcguard/grpcguard/policy"
)

// maxTransactionText is what a text of a record holds, in bytes. A longer one is refused and not cut, so that no two transactions look
// alike.
const maxTransactionText = 1 << 10

// readTransaction reads what the records of a transaction have. The refusal names the field and nothing of its value.
func readTransaction(t *policy.Transaction, m proto.Message, redact *audit.Redactor) (audit.Transaction, *chain.Refusal) {
	r := transactionReader{t: t, m: m.ProtoReflect(), redact: redact}
	out := audit.Transaction{ID: r.text(t.ID), FromAccount: r.text(t.FromAccount), ToAccount: r.text(t.ToAccount)}
	if out.ID == "" {
		r.invalid(t.ID, "must not be empty")
	}
	r.amount(&out)
	if r.refusal != nil {
		return audit.Transaction{}, r.refusal
	}
	return out, nil
}

// transactionReader reads one message, up to the first field that it refuses.
type transactionReader struct {
	t       *policy.Transaction
	m       protoreflect.Message
	redact  *audit.Redactor
	refusal *chain.Refusal
}

func (r *transactionReader) invalid(p policy.Path, description string) {
	if r.refusal == nil {
		r.refusal = invalidField(p.String(), description, "invalid-transaction")
	}
}

func (r *transactionReader) fail(reason, detail string) {
	if r.refusal == nil {
		r.refusal = chain.RefuseWith(codes.Internal, "internal error", reason, r.t.At+": "+detail)
	}
}

func (r *transactionReader) value(p policy.Path) (protoreflect.Value, bool) {
	if p.IsZero() || r.refusal != nil {
		return protoreflect.Value{}, false
	}
	v, ok := p.Value(r.m)
	if !ok {
		r.fail("unreadable-message", "the message is of another type than the policy was compiled for")
	}
	return v, ok
}

// record returns what a record has of a text: itself, or its HMAC. It refuses what a record cannot hold unchanged.
func (r *transactionReader) record(p policy.Path, text string) string {
	switch {
	case p.Sensitive() && r.redact == nil:
		r.fail("no-sensitive-key", p.String()+" is sensitive, and there is no key")
		return ""
	case p.Sensitive():
		return r.redact.Text(text)
	case len(text) > maxTransactionText:
		r.invalid(p, "is too long to be recorded")
	case !utf8.ValidString(text):
		r.invalid(p, "must be valid UTF-8")
	}
	return text
}

// text reads an ID or an account. A number that is 0 is absent: protobuf does not tell it from one that is not set.
func (r *transactionReader) text(p policy.Path) string {
	v, ok := r.value(p)
	if !ok {
		return ""
	}
	var text string
	switch p.Field().Kind() {
	case protoreflect.StringKind:
		text = v.String()
	case protoreflect.BytesKind:
		text = hex.EncodeToString(v.Bytes())
	default:
		if text = number(v); text == "0" {
			text = ""
		}
	}
	return r.record(p, text)
}

// number returns the decimal text of an integer or an enum.
func number(v protoreflect.Value) string {
	switch n := v.Interface().(type) {
	case protoreflect.EnumNumber:
		return strconv.FormatInt(int64(n), 10)
	case uint32, uint64:
		return strconv.FormatUint(v.Uint(), 10)
	default:
		return strconv.FormatInt(v.Int(), 10)
	}
}

func (r *transactionReader) amount(out *audit.Transaction) {
	p := r.t.Amount
	v, ok := r.value(p)
	if !ok {
		return
	}
	out.Currency = r.t.Currency
	switch r.t.Form {
	case policy.AmountMoney:
		r.money(out, v.Message())
		return
	case policy.AmountMinorUnits:
		out.Amount, out.MinorUnits = r.record(p, number(v)), true
	default:
		if !isDecimal(v.String()) {
			r.invalid(p, "must be a valid amount")
			return
		}
		text := v.String()
		if p.Sensitive() {
			text = plainDecimal(text)
		}
		out.Amount = r.record(p, text)
	}
	if c, ok := r.value(r.t.CurrencyField); ok {
		if !isCurrency(c.String()) {
			r.invalid(r.t.CurrencyField, "must be a currency of three capital letters")
			return
		}
		out.Currency = r.record(r.t.CurrencyField, c.String())
	}
}

func (r *transactionReader) money(out *audit.Transaction, money protoreflect.Message) {
	fields := money.Descriptor().Fields()
	units, nanos, currency := fields.ByName("units"), fields.ByName("nanos"), fields.ByName("currency_code")
	if units == nil || units.Kind() != protoreflect.Int64Kind || nanos == nil || nanos.Kind() != protoreflect.Int32Kind ||
		currency == nil || currency.Kind() != protoreflect.StringKind {
		r.fail("unreadable-message", "the message is of another type than the policy was compiled for")
		return
	}
	text, ok := moneyText(money.Get(units).Int(), money.Get(nanos).Int())
	code := money.Get(currency).String()
	if !ok || !isCurrency(code) {
		r.invalid(r.t.Amount, "must be a valid amount")
		return
	}
	out.Amount, out.Currency = r.record(r.t.Amount, text), r.record(r.t.Amount, code)
}

// moneyText is a google.type.Money as a decimal number; not ok if it is not as google.type.Money says.
func moneyText(units, nanos int64) (string, bool) {
	if nanos <= -nanosPerUnit || nanos >= nanosPerUnit || units > 0 && nanos < 0 || units < 0 && nanos > 0 {
		return "", false
	}
	if nanos == 0 {
		return strconv.FormatInt(units, 10), true
	}
	whole, sign := strconv.FormatInt(units, 10), ""
	if nanos < 0 {
		if nanos = -nanos; units == 0 {
			sign = "-"
		}
	}
	part := strconv.FormatInt(nanosPerUnit+nanos, 10)[1:]
	return sign + whole + "." + strings.TrimRight(part, "0"), true
}

func isCurrency(s string) bool {
	return len(s) == 3 && strings.IndexFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' }) < 0
}

// isDecimal reports whether s is a decimal number of at most 38 digits, and at most 18 behind the point.
func isDecimal(s string) bool {
	whole, part, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	return isDigits(whole, 38) && (!point || isDigits(part, 18))
}

// plainDecimal writes a decimal number as every other that is equal to it is written, so that their HMACs are the same.
func plainDecimal(s string) string {
	digits, negative := strings.CutPrefix(s, "-")
	whole, part, _ := strings.Cut(digits, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if part = strings.TrimRight(part, "0"); part != "" {
		whole += "." + part
	}
	if negative && whole != "0" {
		return "-" + whole
	}
	return whole
}

func isDigits(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}
