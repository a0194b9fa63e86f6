package main

import (
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/proto"

	bankv1 "github.com/grpcguard/grpcguard/examples/bank/v1"
)

// ledger is a list of transfers, in the order they were written down. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	entries []*bankv1.Transfer
	byID    map[string]string
}

func newLedger() *ledger { return &ledger{byID: make(map[string]string)} }

// entry returns the entry of a transaction that is written down already.
func (l *ledger) entry(transaction string) (entry string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, ok = l.byID[transaction]
	return entry, ok
}

// write writes a transfer down, once for each transaction ID.
func (l *ledger) write(t *bankv1.Transfer) (entry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry, ok := l.byID[t.GetTransactionId()]; ok {
		return entry
	}
	l.entries = append(l.entries, proto.CloneOf(t))
	entry = strconv.Itoa(len(l.entries))
	l.byID[t.GetTransactionId()] = entry
	return entry
}

// newest returns the newest entry of an account, empty if there is none.
func (l *ledger) newest(account string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, t := range slices.Backward(l.entries) {
		if t.GetFromAccount() == account || t.GetToAccount() == account {
			return strconv.Itoa(i + 1)
		}
	}
	return ""
}

// statement returns the entries of an account, oldest first.
func (l *ledger) statement(account string) []*bankv1.GetStatementResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []*bankv1.GetStatementResponse
	for i, t := range l.entries {
		if t.GetFromAccount() == account || t.GetToAccount() == account {
			lines = append(lines, &bankv1.GetStatementResponse{Entry: strconv.Itoa(i + 1), Transfer: t})
		}
	}
	return lines
}
