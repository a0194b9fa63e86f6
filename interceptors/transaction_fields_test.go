package interceptors

import (
	"bytes"
	"math"
	"math/big"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/grpcguard/grpcguard/interceptors/audit"
	typepb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/google/type"
	pb "github.com/grpcguard/grpcguard/interceptors/internal/testproto/guardtest/v1"
	"github.com/grpcguard/grpcguard/policy"
)

func payTransaction(tb testing.TB) (*policy.Transaction, *audit.Redactor) {
	tb.Helper()
	file, err := policy.ParseFile("policy.yaml", []byte("names: {friend: {spiffe_ids: [\"spiffe://example.org/friend\"]}}\n"))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := policy.Compile(file, pb.File_guardtest_v1_transfer_proto)
	if err != nil {
		tb.Fatal(err)
	}
	redact, err := audit.NewRedactor(bytes.Repeat([]byte("a"), 32))
	if err != nil {
		tb.Fatal(err)
	}
	return p.Rule("/guardtest.v1.TransferService/Pay").Transaction(), redact
}

func TestTransactionsAreRead(t *testing.T) {
	t.Parallel()
	x, redact := payTransaction(t)
	tests := []struct {
		name, id, currency string
		units              int64
		nanos              int32
		amount, refused    string
	}{
		{"whole units", "tx", "EUR", 12, 0, "12", ""},
		{"a half", "tx", "EUR", 12, 500_000_000, "12.5", ""},
		{"the least below nothing", "tx", "EUR", 0, -1, "-0.000000001", ""},
		{"the least there is", "tx", "EUR", math.MinInt64, -999_999_999, "-9223372036854775808.999999999", ""},
		{"nothing", "tx", "EUR", 0, 0, "0", ""},
		{"two signs", "tx", "EUR", 1, -1, "", "transfer.amount: must be a valid amount"},
		{"too many nanos", "tx", "EUR", 1, 1_000_000_000, "", "transfer.amount: must be a valid amount"},
		{"a currency in small letters", "tx", "eur", 1, 0, "", "transfer.amount: must be a valid amount"},
		{"no ID", "", "EUR", 1, 0, "", "transfer.id: must not be empty"},
		{"a long ID", strings.Repeat("x", 1025), "EUR", 1, 0, "", "transfer.id: is too long to be recorded"},
		{"an ID that is no text", "\xff", "EUR", 1, 0, "", "transfer.id: must be valid UTF-8"},
	}
	for _, tt := range tests {
		m := &pb.PayRequest{Transfer: &pb.Transfer{
			Id: tt.id, FromAccount: "a", ToAccount: "a", Amount: &typepb.Money{CurrencyCode: tt.currency, Units: tt.units, Nanos: tt.nanos},
		}}
		got, r := readTransaction(x, m, redact)
		if r != nil {
			if tt.refused == "" || r.Reason() != "invalid-transaction" || !strings.Contains(r.Err().Error(), "InvalidArgument") {
				t.Errorf("%s: %s %v", tt.name, r.Reason(), r.Err())
			}
			continue
		}
		want := audit.Transaction{ID: "tx", Amount: tt.amount, Currency: "EUR", FromAccount: redact.Text("a"), ToAccount: redact.Text("a")}
		if tt.refused != "" || got != want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if _, r := readTransaction(x, &pb.BalanceRequest{}, redact); r == nil || r.Reason() != "unreadable-message" {
		t.Error("a message of another type is read")
	}
	var none *audit.Redactor
	if _, r := readTransaction(x, &pb.PayRequest{Transfer: &pb.Transfer{Id: "tx"}}, none); r == nil || r.Reason() != "no-sensitive-key" {
		t.Error("without a key")
	}
}

// FuzzReadTransaction reads messages: what is not refused is recorded as it is.
func FuzzReadTransaction(f *testing.F) {
	x, redact := payTransaction(f)
	f.Add("tx", "EUR", int64(-1), int32(-5), "a", "b")
	f.Fuzz(func(t *testing.T, id, currency string, units int64, nanos int32, from, to string) {
		var m proto.Message = &pb.PayRequest{Transfer: &pb.Transfer{
			Id: id, FromAccount: from, ToAccount: to, Amount: &typepb.Money{CurrencyCode: currency, Units: units, Nanos: nanos},
		}}
		got, r := readTransaction(x, m, redact)
		if r != nil {
			return
		}
		if b := audit.AppendRecord(nil, &audit.Record{Transaction: got}); bytes.HasSuffix(b, []byte{0xa0, 0x02, 0x01}) {
			t.Errorf("%+v is cut", got)
		}
		amount, ok := new(big.Rat).SetString(got.Amount)
		want := new(big.Rat).Add(big.NewRat(units, 1), big.NewRat(int64(nanos), 1_000_000_000))
		if !ok || amount.Cmp(want) != 0 {
			t.Errorf("%s is not %v", got.Amount, want)
		}
	})
}
