package service

import (
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/policy"
)

// The bank's authorization matrix: who may call what, and nobody else anything.
func TestMatrix(t *testing.T) {
	t.Parallel()
	p, err := LoadPolicy("../../policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	everybody := []string{"teller", "branch/1/teller", "branch/7/teller", "payment", "account", "ledger", "admin", "auditor", "operator", "stranger"}
	allowed := map[string]string{
		"/bank.v1.PaymentService/Pay":           "teller branch/1/teller",
		"/bank.v1.PaymentService/UploadBatch":   "teller branch/1/teller",
		"/bank.v1.AccountService/GetBalance":    "payment ledger",
		"/bank.v1.AccountService/Apply":         "ledger",
		"/bank.v1.AccountService/WatchBalances": "teller branch/1/teller payment",
		"/bank.v1.LedgerService/PostTransfer":   "payment",
		"/bank.v1.LedgerService/GetStatement":   "teller branch/1/teller payment auditor",
		"/bank.v1.LedgerService/GetSummary":     "teller branch/1/teller auditor",
		"/bank.v1.AdminService/GetPolicy":       "auditor",
		"/bank.v1.AdminService/CloseBooks":      "",
		"/grpc.health.v1.Health/Check":          "operator",
		"/grpc.health.v1.Health/List":           "operator",
		"/grpc.health.v1.Health/Watch":          "",

		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      "",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "",
	}
	seen := 0
	for r := range p.Rules() {
		want, ok := allowed[r.Method()]
		if !ok {
			t.Errorf("%s is not in the matrix", r.Method())
			continue
		}
		seen++
		for _, domain := range []string{"spiffe://bank.example/", "spiffe://bank.example.evil.test/", "spiffe://partner.example/"} {
			for _, who := range everybody {
				may := domain == "spiffe://bank.example/" && slices.Contains(strings.Fields(want), who)
				d := r.Decide(policy.Subject{ID: spiffeid.RequireFromString(domain + who), Serial: "1"})
				if d.Allowed != may {
					t.Errorf("%s%s calls %s: %+v", domain, who, r.Method(), d)
				}
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("%d of %d methods have rules", seen, len(allowed))
	}
}
