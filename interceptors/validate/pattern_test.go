package validate

import (
	"regexp"
	"testing"
)

func TestPatternsThatAreMatchedByHand(t *testing.T) {
	t.Parallel()
	for source, simple := range map[string]bool{
		"^tx-[a-z0-9-]{1,40}$":             true,
		"^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$": true,
		"^[A-Z]{3}$":                       true,
		"^[0-9a-f]{8}-[0-9a-f]{4}$":        true,
		"^[a-z]*$":                         true,
		"^(?:ab)$":                         true,
		`\A[a-z]+[0-9]{2}\z`:               true,
		"^[a-z]+[0-9]+$":                   false, // two parts of any length
		"[a-z]{3}":                         false, // not anchored
		"^a|b$":                            false,
		"(?m)^a$":                          false,
		"^(?i)ab$":                         false,
		"^[^a]$":                           false, // more than ASCII
		"^é$":                              false,
		"^(a|bc)$":                         false,
		"^[a-z]{200}[0-9]{200}$":           false, // as long as that it is left to the library
		"^(ab)+$":                          false,
		"(":                                false,
		"":                                 false,
		"^$":                               true,
		"^a{2}b{0,3}c$":                    true,
	} {
		if _, is := parsePattern(source); is != simple {
			t.Errorf("%s: %v", source, is)
		}
	}
}

// Whatever is matched by hand is matched as the library matches it.
func FuzzPattern(f *testing.F) {
	for _, source := range somePatterns {
		for _, s := range someStrings {
			f.Add(source, s)
		}
	}
	f.Fuzz(func(t *testing.T, source, s string) {
		p, simple := parsePattern(source)
		if !simple {
			return
		}
		re, err := regexp.Compile(source)
		if err != nil {
			t.Fatalf("%q is no pattern: %v", source, err)
		}
		if got, want := p.match(s), re.MatchString(s); got != want {
			t.Errorf("%q on %q: %v, want %v", source, s, got, want)
		}
	})
}
