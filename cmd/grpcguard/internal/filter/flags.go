package filter

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Flags are the flags of a filter.
type Flags struct {
	from, to, caller, method, account, transaction, outcome, typ, call, trace, sensitiveKey string
}

// Register adds the flags to a command's.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.from, "from", "", "only records of `TIME` or later: RFC 3339, a date, or a duration before now such as -24h")
	fs.StringVar(&f.to, "to", "", "only records before `TIME`")
	fs.StringVar(&f.caller, "caller", "", "only calls of this SPIFFE `ID`, or of those that a pattern such as spiffe://bank.example/teller/* matches")
	fs.StringVar(&f.method, "method", "", "only calls of this `METHOD`: all of it, or the part behind the last slash")
	fs.StringVar(&f.account, "account", "", "only transactions from or to this `ACCOUNT`")
	fs.StringVar(&f.transaction, "transaction", "", "only the transaction of this `ID`")
	fs.StringVar(&f.outcome, "outcome", "", "only calls that ended in this `WORD`: "+strings.Join(Outcomes, ", "))
	fs.StringVar(&f.typ, "type", "", "only records of this `TYPE`: "+strings.Join(Types, ", "))
	fs.StringVar(&f.call, "call", "", "only records of the call whose IDs begin with these 32 `DIGITS`")
	fs.StringVar(&f.trace, "trace", "", "only calls of this trace `ID`")
	fs.StringVar(&f.sensitiveKey, "sensitive-key", "", "a `FILE` with the key of sensitive fields, byte for byte as the service has it; -account and -transaction are then looked for in their sealed form as well")
}

// Filter returns the filter that the flags ask for. The error names the flag at fault.
func (f *Flags) Filter(now time.Time) (Filter, error) {
	out := Filter{Caller: f.caller, Method: f.method, Outcome: f.outcome, Type: f.typ, Call: strings.ToLower(f.call), Trace: strings.ToLower(f.trace)}
	var err error
	if out.From, err = parseTime(f.from, now); err != nil {
		return Filter{}, fmt.Errorf("-from: %w", err)
	}
	if out.To, err = parseTime(f.to, now); err != nil {
		return Filter{}, fmt.Errorf("-to: %w", err)
	}
	if out.From != nil && out.To != nil && !out.From.Before(*out.To) {
		return Filter{}, fmt.Errorf("-from %s is not before -to %s", f.from, f.to)
	}
	if err := oneOf("-outcome", f.outcome, Outcomes); err != nil {
		return Filter{}, err
	}
	if err := oneOf("-type", f.typ, Types); err != nil {
		return Filter{}, err
	}
	// The whole ID of a record is at hand more often than its first part.
	out.Call, _, _ = strings.Cut(out.Call, ".")
	if err := digits("-call", out.Call, 32); err != nil {
		return Filter{}, err
	}
	if err := digits("-trace", out.Trace, 32); err != nil {
		return Filter{}, err
	}
	if out.Accounts, out.Transactions, err = f.sealable(); err != nil {
		return Filter{}, err
	}
	if _, err := out.Compile(); err != nil {
		return Filter{}, fmt.Errorf("-caller: %w", err)
	}
	return out, nil
}

// sealable returns what to look for in fields that can be sensitive.
func (f *Flags) sealable() (accounts, transactions []string, err error) {
	if f.account != "" {
		accounts = []string{f.account}
	}
	if f.transaction != "" {
		transactions = []string{f.transaction}
	}
	if f.sensitiveKey == "" {
		return accounts, transactions, nil
	}
	key, err := os.ReadFile(f.sensitiveKey)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("-sensitive-key: %w", err)
	case f.account == "" && f.transaction == "":
		return nil, nil, errors.New("-sensitive-key is for -account and -transaction, and neither is given")
	}
	sealedAccounts, err := sealed(key, accounts)
	if err != nil {
		return nil, nil, err
	}
	sealedTransactions, err := sealed(key, transactions)
	return append(accounts, sealedAccounts...), append(transactions, sealedTransactions...), err
}

func parseTime(text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no bound
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			t = t.UTC()
			return &t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d <= 0 {
		t := now.Add(d).UTC()
		return &t, nil
	}
	return nil, fmt.Errorf("%q is no time such as 2026-11-24T09:00:00Z, no date such as 2026-11-24, and no duration before now such as -24h", text)
}

func oneOf(name, value string, allowed []string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", name, value, strings.Join(allowed, ", "))
}

func digits(name, value string, n int) error {
	if _, err := hex.DecodeString(value); value != "" && (err != nil || len(value) != n) {
		return fmt.Errorf("%s: %q is not %d hexadecimal digits", name, value, n)
	}
	return nil
}
