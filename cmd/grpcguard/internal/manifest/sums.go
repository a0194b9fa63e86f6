package manifest

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// Sums are the amounts of some transactions. What cannot be added is counted, so that nothing is left out in silence.
type Sums struct {
	// Count is how many records there are, and NoAmount how many of them have no amount.
	Count    uint64 `json:"count"`
	NoAmount uint64 `json:"no_amount"`
	// Sealed is how many have an amount that is sensitive, and of which the record has an HMAC only.
	Sealed uint64 `json:"sealed"`
	// Unreadable is how many have an amount that is no decimal number.
	Unreadable uint64 `json:"unreadable"`
	Sums       []Sum  `json:"sums"`

	totals map[unit]*total
}

// Sum is the exact sum of the amounts in one currency.
type Sum struct {
	Currency string `json:"currency"`
	// MinorUnits says that the amounts are in minor units, such as cents. They are never added to those that are not.
	MinorUnits bool   `json:"minor_units,omitempty"`
	Count      uint64 `json:"count"`
	Amount     string `json:"amount"`
}

type unit struct {
	currency string
	minor    bool
}

type total struct {
	sum    big.Rat
	places int // the most that an amount had behind its point
	count  uint64
}

func (s *Sums) add(t *audit.Transaction) {
	s.Count++
	switch {
	case t.Amount == "":
		s.NoAmount++
		return
	case strings.HasPrefix(t.Amount, "hmac:"):
		s.Sealed++
		return
	}
	amount, places, ok := parseAmount(t.Amount)
	if !ok {
		s.Unreadable++
		return
	}
	if s.totals == nil {
		s.totals = make(map[unit]*total)
	}
	u := unit{t.Currency, t.MinorUnits}
	sum := s.totals[u]
	if sum == nil {
		sum = &total{}
		s.totals[u] = sum
	}
	sum.sum.Add(&sum.sum, amount)
	sum.places = max(sum.places, places)
	sum.count++
}

// parseAmount reads a decimal number. It takes no exponent: a few digits of one would be a number that fills the memory.
func parseAmount(text string) (amount *big.Rat, places int, ok bool) {
	whole, fraction, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if !digits(whole) || point && !digits(fraction) {
		return nil, 0, false
	}
	amount, ok = new(big.Rat).SetString(text)
	return amount, len(fraction), ok
}

func digits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// end brings the sums into their form.
func (s *Sums) end() {
	s.Sums = []Sum{}
	for u, t := range s.totals {
		s.Sums = append(s.Sums, Sum{u.currency, u.minor, t.count, t.sum.FloatString(t.places)})
	}
	slices.SortFunc(s.Sums, func(a, b Sum) int {
		if c := cmp.Compare(a.Currency, b.Currency); c != 0 || a.MinorUnits == b.MinorUnits {
			return c
		}
		if b.MinorUnits {
			return -1
		}
		return 1
	})
}
