package filter

import (
	"fmt"

	"github.com/grpcguard/grpcguard/interceptors/audit"
)

// sealed returns the values in the form that they have in records where their fields are sensitive.
func sealed(key []byte, values []string) ([]string, error) {
	r, err := audit.NewRedactor(key)
	if err != nil {
		return nil, fmt.Errorf("-sensitive-key: %w", err)
	}
	var out []string
	for _, v := range values {
		out = append(out, r.Text(v))
	}
	return out, nil
}
