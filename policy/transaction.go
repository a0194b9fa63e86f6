package policy

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

// Transaction says where a request holds what the records of a transaction have. It must not be modified.
type Transaction struct {
	// At says where it is written; it is for records and errors.
	At string
	// ID holds the transaction's ID: a string, bytes, an integer or an enum.
	ID Path
	// Amount holds the amount, in the form that Form says; the zero Path where the method names none.
	Amount Path
	Form   AmountForm
	// CurrencyField holds the amount's currency, a string; the zero Path where the currency is fixed, in the Money, or there is none.
	CurrencyField Path
	// Currency is the amount's currency where no field holds it.
	Currency string
	// FromAccount and ToAccount hold who pays and who is paid: strings, bytes or integers; zero Paths where the method names none.
	FromAccount, ToAccount Path
	// PerMessage says that each message of the caller's stream is a transaction. It is false where the caller sends no stream.
	PerMessage bool
}

// Sensitive reports whether any of the fields is.
func (t *Transaction) Sensitive() bool {
	for _, p := range t.paths() {
		if p.Sensitive() {
			return true
		}
	}
	return false
}

func (t *Transaction) paths() []Path {
	return []Path{t.ID, t.Amount, t.CurrencyField, t.FromAccount, t.ToAccount}
}

// AmountForm is how a message writes an amount.
type AmountForm uint8

// The forms of amounts.
const (
	// AmountNone is that of a transaction without an amount.
	AmountNone AmountForm = iota
	// AmountMoney is a google.type.Money.
	AmountMoney
	// AmountMinorUnits is an integer, in minor units of the currency.
	AmountMinorUnits
	// AmountDecimal is a string that holds a decimal number.
	AmountDecimal
)

// RecordClass says how the records of a method's calls are kept.
type RecordClass uint8

// The classes of records.
const (
	// RecordDefault leaves it to the guard.
	RecordDefault RecordClass = iota
	// RecordDurable has no answer leave before the record is durable.
	RecordDurable
	// RecordBestEffort lets records be dropped under load.
	RecordBestEffort
)

var recordClasses = map[grpcguardv1.RecordClass]RecordClass{
	grpcguardv1.RecordClass_RECORD_CLASS_DURABLE:     RecordDurable,
	grpcguardv1.RecordClass_RECORD_CLASS_BEST_EFFORT: RecordBestEffort,
}

// recordClass returns how the records of a method are kept. A service may keep the rest of its records with less care than its
// transactions; who says it of a transaction expects what will not happen.
func (c *compiler) recordClass(m merged) RecordClass {
	if m.transaction == nil {
		return recordClasses[m.class.class()]
	}
	if d := m.class; d.class() == grpcguardv1.RecordClass_RECORD_CLASS_BEST_EFFORT && (d.ofMethod || d.rule.GetTransaction() != nil) {
		c.found.addf(d.at("record_class"), "a transaction's records are always durable")
	}
	return RecordDurable
}

func (d *declared) class() grpcguardv1.RecordClass {
	if d == nil {
		return grpcguardv1.RecordClass_RECORD_CLASS_UNSPECIFIED
	}
	return d.rule.GetRecordClass()
}

// transaction compiles what makes a method one, if anything does.
func (c *compiler) transaction(d protoreflect.MethodDescriptor, m merged) *Transaction {
	if m.transaction == nil {
		return nil
	}
	declared := m.transaction.rule.GetTransaction()
	r := transactionReader{input: d.Input()}
	t := &Transaction{
		At:         m.transaction.at("transaction").String(),
		Currency:   declared.GetFixedCurrency(),
		PerMessage: declared.GetPerMessage() && d.IsStreamingClient(),
	}
	t.ID = r.path("id", declared.GetId(), isTransactionID, "a transaction's ID is a string, bytes, an integer or an enum")
	t.FromAccount = r.path("from_account", declared.GetFromAccount(), isAccount, "an account is a string, bytes or an integer")
	t.ToAccount = r.path("to_account", declared.GetToAccount(), isAccount, "an account is a string, bytes or an integer")
	t.Amount = r.path("amount", declared.GetAmount(), isAmount, "an amount is a google.type.Money, an integer of minor units or a decimal string")
	t.CurrencyField = r.path("currency", declared.GetCurrency(), isString, "a currency is a string")
	t.Form = amountForm(t.Amount)
	r.currency(declared, t.Form)
	if m.transaction.ofMethod && declared.GetPerMessage() && !d.IsStreamingClient() {
		r.notef("per_message", "does nothing: the caller sends one message")
	}
	c.noteTransaction(d, m, r.notes)
	return t
}

// noteTransaction reports what is wrong with a transaction. A service's is wrong for some of its methods, so that each of them is
// reported once.
func (c *compiler) noteTransaction(d protoreflect.MethodDescriptor, m merged, notes []transactionNote) {
	if m.transaction.ofMethod {
		for _, n := range notes {
			c.found.addf(m.transaction.at("transaction", n.field), "%s", n.text)
		}
		return
	}
	texts := make([]string, len(notes))
	for i, n := range notes {
		texts[i] = n.field + ": " + n.text
	}
	if len(texts) > 0 {
		c.found.addf(m.transaction.at("transaction"), "%s takes a %s: %s", fullMethod(d), d.Input().FullName(), strings.Join(texts, "; "))
	}
}

// transactionReader finds the fields of a transaction in a method's input, and notes what is wrong.
type transactionReader struct {
	input protoreflect.MessageDescriptor
	notes []transactionNote
}

type transactionNote struct{ field, text string }

func (r *transactionReader) notef(field, format string, args ...any) {
	r.notes = append(r.notes, transactionNote{field, fmt.Sprintf(format, args...)})
}

// path returns the path that text names, which leads to what fits; the zero Path where text is empty.
func (r *transactionReader) path(field, text string, fits func(protoreflect.FieldDescriptor) bool, wanted string) Path {
	if text == "" {
		return Path{}
	}
	p, err := parsePath(r.input, text)
	if err != nil {
		r.notef(field, "%v", err)
		return Path{}
	}
	if !fits(p.Field()) {
		r.notef(field, "%q is a %s; %s", text, typeName(p.Field()), wanted)
	}
	return p
}

// currency checks that an amount has one currency, and a currency an amount.
func (r *transactionReader) currency(t *grpcguardv1.Transaction, form AmountForm) {
	for _, c := range []struct{ field, text string }{{"currency", t.GetCurrency()}, {"fixed_currency", t.GetFixedCurrency()}} {
		switch {
		case c.text == "":
		case t.GetAmount() == "":
			r.notef(c.field, "does nothing without amount")
		case form == AmountMoney:
			r.notef(c.field, "a google.type.Money holds its currency itself")
		}
	}
	switch {
	case t.GetCurrency() != "" && t.GetFixedCurrency() != "":
		r.notef("fixed_currency", "cannot stand beside currency")
	case t.GetCurrency() == "" && t.GetFixedCurrency() == "" && (form == AmountMinorUnits || form == AmountDecimal):
		r.notef("amount", "%q needs a currency: name its field in currency, or itself in fixed_currency", t.GetAmount())
	}
}

func amountForm(p Path) AmountForm {
	switch {
	case p.IsZero():
		return AmountNone
	case isMoney(p.Field()):
		return AmountMoney
	case isInteger(p.Field()):
		return AmountMinorUnits
	case isString(p.Field()):
		return AmountDecimal
	default:
		return AmountNone // It was noted.
	}
}

func isString(f protoreflect.FieldDescriptor) bool { return f.Kind() == protoreflect.StringKind }

func isAccount(f protoreflect.FieldDescriptor) bool {
	return isString(f) || f.Kind() == protoreflect.BytesKind || isInteger(f)
}

func isTransactionID(f protoreflect.FieldDescriptor) bool {
	return isAccount(f) || f.Kind() == protoreflect.EnumKind
}

func isAmount(f protoreflect.FieldDescriptor) bool { return isMoney(f) || isInteger(f) || isString(f) }

// typeName is the type of a field as a .proto file has it.
func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	default:
		return f.Kind().String()
	}
}

// canonical is all that a record depends on, for the policy's hash: beside what is declared, how the fields are written and which
// of them are sensitive.
func (t *Transaction) canonical() string {
	if t == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q %v", t.Form, t.Currency, t.PerMessage)
	for _, p := range t.paths() {
		kind := ""
		if !p.IsZero() {
			kind = p.Field().Kind().String()
		}
		fmt.Fprintf(&b, " %q %s %v", p.text, kind, p.sensitive)
	}
	return b.String()
}
