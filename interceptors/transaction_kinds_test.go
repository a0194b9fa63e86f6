package interceptors

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/policy"
)

// kindsProto has a field of each kind that a transaction's values can be.
const kindsProto = `
name: "kinds/v1/kinds.proto" package: "kinds.v1" syntax: "proto3"
enum_type { name: "Book" value { name: "BOOK_UNSPECIFIED" number: 0 } value { name: "BOOK_MAIN" number: 3 } }
message_type {
  name: "Order"
  field { name: "text" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "raw" number: 2 label: LABEL_OPTIONAL type: TYPE_BYTES }
  field { name: "n" number: 3 label: LABEL_OPTIONAL type: TYPE_SINT64 }
  field { name: "u" number: 4 label: LABEL_OPTIONAL type: TYPE_FIXED64 }
  field { name: "book" number: 5 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".kinds.v1.Book" }
  field { name: "amount" number: 6 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "currency" number: 7 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "sealed" number: 9 label: LABEL_OPTIONAL type: TYPE_STRING options { debug_redact: true } }
  field { name: "secret" number: 8 label: LABEL_OPTIONAL type: TYPE_INT64 options { debug_redact: true } }
}
service { name: "Orders" method { name: "Put" input_type: ".kinds.v1.Order" output_type: ".kinds.v1.Order" } }
`

// kindsOf compiles a transaction that the policy file declares.
func kindsOf(t *testing.T, transaction string) (*policy.Transaction, protoreflect.MessageDescriptor) {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(kindsProto), file); err != nil {
		t.Fatal(err)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := policy.ParseFile("policy.yaml", fmt.Appendf(nil,
		"methods:\n  /kinds.v1.Orders/Put: {callers: [\"spiffe://a.test/b\"], transaction: {%s}}\n", transaction))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(yaml, fd)
	if err != nil {
		t.Fatal(err)
	}
	return p.Rule("/kinds.v1.Orders/Put").Transaction(), fd.Messages().ByName("Order")
}

func TestTransactionsOfAllKindsAreRead(t *testing.T) {
	t.Parallel()
	redact, err := audit.NewRedactor([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	decimal := `id: text, amount: amount, currency: currency`
	sealed := `id: text, amount: sealed, fixed_currency: EUR`
	for _, tt := range []struct {
		transaction, order string
		want               audit.Transaction
		refused            string
	}{
		{`id: text`, `text: "t1"`, audit.Transaction{ID: "t1"}, ""},
		{`id: text, from_account: n, to_account: u`, `text: "t1" n: -7 u: 18446744073709551615`,
			audit.Transaction{ID: "t1", FromAccount: "-7", ToAccount: "18446744073709551615"}, ""},
		{`id: text, from_account: n, to_account: raw`, `text: "t1"`, audit.Transaction{ID: "t1"}, ""},
		{`id: raw, from_account: text`, `raw: "\x00\xff" text: "acc\n1"`, audit.Transaction{ID: "00ff", FromAccount: "acc\n1"}, ""},
		{`id: n`, `n: -9223372036854775808`, audit.Transaction{ID: "-9223372036854775808"}, ""},
		{`id: book`, `book: BOOK_MAIN`, audit.Transaction{ID: "3"}, ""},
		{`id: raw`, `text: "t1"`, audit.Transaction{}, "raw: must not be empty"},
		{`id: n`, `text: "t1"`, audit.Transaction{}, "n: must not be empty"},
		{`id: raw`, `raw: "` + strings.Repeat("x", 513) + `"`, audit.Transaction{}, "raw: is too long to be recorded"},

		{`id: text, amount: n, fixed_currency: EUR`, `text: "t1" n: -1250`, audit.Transaction{ID: "t1", Amount: "-1250", Currency: "EUR", MinorUnits: true}, ""},
		{`id: text, amount: u, currency: currency`, `text: "t1" currency: "JPY"`, audit.Transaction{ID: "t1", Amount: "0", Currency: "JPY", MinorUnits: true}, ""},
		{`id: text, amount: u, currency: currency`, `text: "t1" u: 1`, audit.Transaction{}, "currency: must be a currency of three capital letters"},
		{`id: text, amount: u, currency: currency`, `text: "t1" currency: "EURO"`, audit.Transaction{}, "currency: must be a currency of three capital letters"},

		{decimal, `text: "t1" currency: "EUR" amount: "-12.50"`, audit.Transaction{ID: "t1", Amount: "-12.50", Currency: "EUR"}, ""},
		{decimal, `text: "t1" currency: "EUR" amount: "` + strings.Repeat("9", 38) + "." + strings.Repeat("9", 18) + `"`,
			audit.Transaction{ID: "t1", Amount: strings.Repeat("9", 38) + "." + strings.Repeat("9", 18), Currency: "EUR"}, ""},
		{decimal, `text: "t1" currency: "EUR" amount: ""`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "1e3"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "+1"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "1."`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: ".5"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "--1"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "1,5"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "\u0661"`, audit.Transaction{}, "amount: must be a valid amount"},
		{decimal, `text: "t1" currency: "EUR" amount: "` + strings.Repeat("9", 39) + `"`, audit.Transaction{}, "amount: must be a valid amount"},

		{`id: secret`, `secret: 42`, audit.Transaction{ID: redact.Text("42")}, ""},
		{`id: text, amount: secret, fixed_currency: EUR`, `text: "t1"`, audit.Transaction{ID: "t1", Amount: redact.Text("0"), Currency: "EUR", MinorUnits: true}, ""},
		{sealed, `text: "t1" sealed: "12.5"`, audit.Transaction{ID: "t1", Amount: redact.Text("12.5"), Currency: "EUR"}, ""},
		{sealed, `text: "t1" sealed: "012.500"`, audit.Transaction{ID: "t1", Amount: redact.Text("12.5"), Currency: "EUR"}, ""},
		{sealed, `text: "t1" sealed: "-00.50"`, audit.Transaction{ID: "t1", Amount: redact.Text("-0.5"), Currency: "EUR"}, ""},
		{sealed, `text: "t1" sealed: "-0.0"`, audit.Transaction{ID: "t1", Amount: redact.Text("0"), Currency: "EUR"}, ""},
		{sealed, `text: "t1" sealed: "100"`, audit.Transaction{ID: "t1", Amount: redact.Text("100"), Currency: "EUR"}, ""},
		{sealed, `text: "t1" sealed: "x"`, audit.Transaction{}, "sealed: must be a valid amount"},
		{`id: secret`, ``, audit.Transaction{}, "secret: must not be empty"},
	} {
		t.Run(tt.transaction+" of "+tt.order[:min(len(tt.order), 60)], func(t *testing.T) {
			t.Parallel()
			x, order := kindsOf(t, tt.transaction)
			m := dynamicpb.NewMessage(order)
			if err := prototext.Unmarshal([]byte(tt.order), m); err != nil {
				t.Fatal(err)
			}
			got, r := readTransaction(x, m, redact)
			if tt.refused == "" {
				if r != nil || got != tt.want {
					t.Errorf("got %+v %v", got, r)
				}
				return
			}
			if r == nil {
				t.Fatalf("got %+v", got)
			}
			field, why, _ := strings.Cut(tt.refused, ": ")
			s := status.Convert(r.Err())
			told := false
			for _, d := range s.Details() {
				if bad, ok := d.(*errdetails.BadRequest); ok {
					v := bad.GetFieldViolations()[0]
					told = v.GetField() == field && v.GetDescription() == why && v.GetReason() == "invalid-transaction"
				}
			}
			if s.Code() != codes.InvalidArgument || r.Reason() != "invalid-transaction" || !told || got != (audit.Transaction{}) {
				t.Errorf("got %v %v", r.Reason(), s)
			}
		})
	}
}
