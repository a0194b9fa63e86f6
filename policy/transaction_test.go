package policy_test

import (
	"strings"
	"testing"

	"github.com/grpcguard/grpcguard/policy"
)

// paths are a transaction's, as text.
func paths(x *policy.Transaction) string {
	return strings.Join([]string{x.ID.String(), x.Amount.String(), x.CurrencyField.String(), x.FromAccount.String(), x.ToAccount.String()}, " ")
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, paths string
		form              policy.AmountForm
		currency          string
	}{
		{"an ID", `id: "account"`, "account    ", policy.AmountNone, ""},
		{"bytes for an ID", `id: "token"`, "token    ", policy.AmountNone, ""},
		{"an enum for an ID", `id: "channel"`, "channel    ", policy.AmountNone, ""},
		{"a number for an ID", `id: "uint32"`, "uint32    ", policy.AmountNone, ""},
		{"a Money", `id: "account" amount: "self.price"`, "account self.price   ", policy.AmountMoney, ""},
		{"minor units", `id: "account" amount: "amount" currency: "currency"`, "account amount currency  ", policy.AmountMinorUnits, ""},
		{"minor units of one currency", `id: "account" amount: "amount" fixed_currency: "EUR"`, "account amount   ", policy.AmountMinorUnits, "EUR"},
		{"a decimal", `id: "account" amount: "self.account" currency: "currency"`, "account self.account currency  ", policy.AmountDecimal, ""},
		{"accounts", `id: "account" from_account: "from.account" to_account: "sfixed64"`, "account   from.account sfixed64", policy.AmountNone, ""},
		{"accounts in bytes", `id: "account" from_account: "token"`, "account   token ", policy.AmountNone, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: "transaction {" + tt.text + "}"}, call{name: "Other"}))
			if err != nil {
				t.Fatal(err)
			}
			x := p.Rule(buy).Transaction()
			if paths(x) != tt.paths || x.Form != tt.form || x.Currency != tt.currency || x.PerMessage || x.Sensitive() {
				t.Errorf("%q %+v", paths(x), x)
			}
			if x.At != atBuy+".transaction" {
				t.Error(x.At)
			}
			if p.Rule(buy).RecordClass() != policy.RecordDurable {
				t.Error("it is not durable")
			}
			if other := p.Rule("/shop.v1.Shop/Other"); other.Transaction() != nil || other.RecordClass() != policy.RecordDefault {
				t.Error("another method is a transaction")
			}
		})
	}
}

func TestTransactionsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	const (
		idType      = "; a transaction's ID is a string, bytes, an integer or an enum"
		amountType  = "; an amount is a google.type.Money, an integer of minor units or a decimal string"
		accountType = "; an account is a string, bytes or an integer"
		itself      = ": a google.type.Money holds its currency itself"
	)
	tests := []struct {
		name, text string
		want       []string // below transaction
	}{
		{"no ID", "", []string{".id: must be at least 1 characters"}},
		{"an ID that is not there", `id: "acount"`, []string{`.id: "acount": shop.v1.Order has no field "acount"; did you mean "account"?`}},
		{"an ID that is not there, deeper", `id: "self.from.acount"`, []string{
			`.id: "self.from.acount": shop.v1.Party has no field "acount"; did you mean "account"?`,
		}},
		{"an ID in a string", `id: "account.id"`, []string{`.id: "account.id": shop.v1.Order.account is a string and has no fields`}},
		{"a list", `id: "tags"`, []string{`.id: "tags": shop.v1.Order.tags is repeated; a path leads to one value`}},
		{"into a list", `id: "parties.account"`, []string{`.id: "parties.account": shop.v1.Order.parties is repeated; a path leads to one value`}},
		{"a map", `id: "labels"`, []string{`.id: "labels": shop.v1.Order.labels is a map; a path leads to one value`}},
		{"into a map", `id: "labels.value"`, []string{`.id: "labels.value": shop.v1.Order.labels is a map; a path leads to one value`}},
		{"a message for an ID", `id: "from"`, []string{`.id: "from" is a shop.v1.Party` + idType}},
		{"floating point for an ID", `id: "share"`, []string{`.id: "share" is a float` + idType}},
		{"true or false for an ID", `id: "urgent"`, []string{`.id: "urgent" is a bool` + idType}},

		{"an amount in floating point", `id: "account" amount: "ratio" fixed_currency: "EUR"`, []string{`.amount: "ratio" is a double` + amountType}},
		{"an amount in bytes", `id: "account" amount: "token" fixed_currency: "EUR"`, []string{`.amount: "token" is a bytes` + amountType}},
		{"an enum for an amount", `id: "account" amount: "channel" fixed_currency: "EUR"`, []string{`.amount: "channel" is a shop.v1.Channel` + amountType}},
		{"another Money", `id: "account" amount: "like"`, []string{`.amount: "like" is a shop.v1.Money` + amountType}},
		{"an amount that is not there", `id: "account" amount: "amounts" fixed_currency: "EUR"`, []string{
			`.amount: "amounts": shop.v1.Order has no field "amounts"; did you mean "amount"?`,
		}},
		{"minor units of nothing", `id: "account" amount: "amount"`, []string{
			`.amount: "amount" needs a currency: name its field in currency, or itself in fixed_currency`,
		}},
		{"a decimal of nothing", `id: "account" amount: "currency"`, []string{
			`.amount: "currency" needs a currency: name its field in currency, or itself in fixed_currency`,
		}},
		{"a Money of another currency", `id: "account" amount: "price" currency: "currency"`, []string{".currency" + itself}},
		{"a Money of a fixed currency", `id: "account" amount: "price" fixed_currency: "EUR"`, []string{".fixed_currency" + itself}},
		{"a currency of nothing", `id: "account" currency: "currency"`, []string{".currency: does nothing without amount"}},
		{"a fixed currency of nothing", `id: "account" fixed_currency: "EUR"`, []string{".fixed_currency: does nothing without amount"}},
		{"two currencies", `id: "account" amount: "amount" currency: "currency" fixed_currency: "EUR"`, []string{
			".fixed_currency: cannot stand beside currency",
		}},
		{"a currency in small letters", `id: "account" amount: "amount" fixed_currency: "eur"`, []string{
			".fixed_currency: does not match regex pattern `^([A-Z]{3})?$`",
		}},
		{"an enum for a currency", `id: "account" amount: "amount" currency: "channel"`, []string{
			`.currency: "channel" is a shop.v1.Channel; a currency is a string`,
		}},
		{"a currency that is not there", `id: "account" amount: "amount" currency: "currenci"`, []string{
			`.currency: "currenci": shop.v1.Order has no field "currenci"; did you mean "currency"?`,
		}},

		{"an enum for an account", `id: "account" from_account: "channel"`, []string{`.from_account: "channel" is a shop.v1.Channel` + accountType}},
		{"a message for an account", `id: "account" to_account: "from"`, []string{`.to_account: "from" is a shop.v1.Party` + accountType}},
		{"true or false for an account", `id: "account" to_account: "urgent"`, []string{`.to_account: "urgent" is a bool` + accountType}},
		{"each message of no stream", `id: "account" per_message: true`, []string{".per_message: does nothing: the caller sends one message"}},
		{"all that can be wrong", `id: "acount" from_account: "tags" to_account: "ratio" amount: "like" per_message: true`, []string{
			`.amount: "like" is a shop.v1.Money` + amountType,
			`.from_account: "tags": shop.v1.Order.tags is repeated; a path leads to one value`,
			`.id: "acount": shop.v1.Order has no field "acount"; did you mean "account"?`,
			".per_message: does nothing: the caller sends one message",
			`.to_account: "ratio" is a double` + accountType,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Compile(nil, shop(t, "", call{name: "Buy", rule: "transaction {" + tt.text + "}", server: true}))
			var want []string
			for _, w := range tt.want {
				want = append(want, atBuy+".transaction"+w)
			}
			wantErrors(t, err, want...)
		})
	}
}

func TestRecordClassesAndMergedTransactions(t *testing.T) {
	t.Parallel()
	const x, best = `transaction { id: "account" } `, "record_class: RECORD_CLASS_BEST_EFFORT "
	tests := []struct {
		name, service, method, yaml, id string
		class                           policy.RecordClass
		want                            []string
	}{
		{"best effort", "", best, "", "", policy.RecordBestEffort, nil},
		{"best effort of a service", best, "", "", "", policy.RecordBestEffort, nil},
		{"a transaction in it", best, x, "", "account", policy.RecordDurable, nil},
		{"the file's transaction, as a whole", "", `transaction { id: "account" to_account: "token" }`, "methods:\n  /shop.v1.Shop/Buy: {transaction: {id: token}}\n", "token", policy.RecordDurable, nil},
		{"a best effort transaction", "", x + best, "", "", 0, []string{atBuy + ".record_class: a transaction's records are always durable"}},
		{"a best effort transaction in the file", "", x, "methods:\n  /shop.v1.Shop/Buy: {record_class: RECORD_CLASS_BEST_EFFORT}\n", "", 0, []string{
			`policy.yaml:2:23: methods["/shop.v1.Shop/Buy"].record_class: a transaction's records are always durable`,
		}},
		{"a service's that does not fit", `transaction { id: "acount" to_account: "ratio" }`, "", "", "", 0, []string{
			`shop/v1/shop.proto: service shop.v1.Shop: (grpcguard.v1.service).transaction: /shop.v1.Shop/Buy takes a shop.v1.Order: ` +
				`id: "acount": shop.v1.Order has no field "acount"; did you mean "account"?; to_account: "ratio" is a double; an account is a string, bytes or an integer`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := policy.Compile(parse(t, tt.yaml), shop(t, tt.service, call{name: "Buy", rule: tt.method}))
			if tt.want != nil {
				wantErrors(t, err, tt.want...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			r := p.Rule(buy)
			if x := r.Transaction(); r.RecordClass() != tt.class || (x != nil) != (tt.id != "") || x != nil && (x.ID.String() != tt.id || tt.id == "token" && !x.ToAccount.IsZero()) {
				t.Errorf("%v %+v", r.RecordClass(), x)
			}
		})
	}
}
