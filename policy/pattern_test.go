package policy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/policy"
)

func TestPatternsThatAreNone(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                          `"" does not begin with "spiffe://"`,
		"bank.test/teller":          `"bank.test/teller" does not begin with "spiffe://"`,
		"SPIFFE://bank.test/a":      `"SPIFFE://bank.test/a" does not begin with "spiffe://"`,
		"https://bank.test/a":       `"https://bank.test/a" does not begin with "spiffe://"`,
		"spiffe://bank.test":        `"spiffe://bank.test" names a trust domain and no workload; "spiffe://bank.test/**" matches all of its workloads`,
		"spiffe://bank.test/":       `"spiffe://bank.test/": path cannot contain empty segments`,
		"spiffe://*/a":              `"spiffe://*/a": the trust domain cannot be a wildcard`,
		"spiffe://*.bank.test/a":    `"spiffe://*.bank.test/a": the trust domain cannot be a wildcard`,
		"spiffe:///a":               `"spiffe:///a": trust domain is missing`,
		"spiffe://Bank.test/a":      `"spiffe://Bank.test/a": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores`,
		"spiffe://bank.test:80/a":   `"spiffe://bank.test:80/a": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores`,
		"spiffe://me@bank.test/a":   `"spiffe://me@bank.test/a": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores`,
		"spiffe://bank.test/a/":     `"spiffe://bank.test/a/": path cannot contain empty segments`,
		"spiffe://bank.test//a":     `"spiffe://bank.test//a": path cannot contain empty segments`,
		"spiffe://bank.test/./a":    `"spiffe://bank.test/./a": path cannot contain dot segments`,
		"spiffe://bank.test/x/../a": `"spiffe://bank.test/x/../a": path cannot contain dot segments`,
		"spiffe://bank.test/a*":     `"spiffe://bank.test/a*": a wildcard takes the place of a whole segment, not a part of "a*"`,
		"spiffe://bank.test/***":    `"spiffe://bank.test/***": a wildcard takes the place of a whole segment, not a part of "***"`,
		"spiffe://bank.test/**/a":   `"spiffe://bank.test/**/a": ** can only be the last segment`,
		"spiffe://bank.test/a?b":    `"spiffe://bank.test/a?b": path segment characters are limited to letters, numbers, dots, dashes, and underscores`,
		"spiffe://bank.test/a#b":    `"spiffe://bank.test/a#b": path segment characters are limited to letters, numbers, dots, dashes, and underscores`,
		"spiffe://bank.test/%61":    `"spiffe://bank.test/%61": path segment characters are limited to letters, numbers, dots, dashes, and underscores`,
		"spiffe://bank.test/a\n":    `"spiffe://bank.test/a\n": path segment characters are limited to letters, numbers, dots, dashes, and underscores`,
		" spiffe://bank.test/a":     `" spiffe://bank.test/a" does not begin with "spiffe://"`,
	} {
		if _, err := policy.ParsePattern(pattern); err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", pattern, err, want)
		}
	}
}

func TestPatternsMatchWholeSegmentsOfOneTrustDomain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, matches, misses string // IDs, separated by blanks
	}{
		{"spiffe://a.b/x", "spiffe://a.b/x", "spiffe://a.b spiffe://a.b/y spiffe://a.b/xx spiffe://a.b/x/y spiffe://a.b.c/x spiffe://c/x spiffe://a.bb/x spiffe://a.b/X"},
		{"spiffe://a.b/*", "spiffe://a.b/x spiffe://a.b/y", "spiffe://a.b spiffe://a.b/x/y spiffe://a.bc/x"},
		{"spiffe://a.b/**", "spiffe://a.b/x spiffe://a.b/x/y/z", "spiffe://a.b spiffe://a.b.evil/x"},
		{"spiffe://a.b/x/*/z", "spiffe://a.b/x/y/z", "spiffe://a.b/x/z spiffe://a.b/x/y/y/z spiffe://a.b/x/y spiffe://a.b/y/y/z"},
		{"spiffe://a.b/x/**", "spiffe://a.b/x/y spiffe://a.b/x/y/z", "spiffe://a.b/x spiffe://a.b/xy/z spiffe://a.b/y/x"},
		{"spiffe://a.b/*/**", "spiffe://a.b/x/y spiffe://a.b/x/y/z", "spiffe://a.b/x spiffe://a.b"},
	}
	for _, tt := range tests {
		p, err := policy.ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for id := range strings.FieldsSeq(tt.matches) {
			if !p.Match(spiffeid.RequireFromString(id)) {
				t.Errorf("%s does not match %s", p, id)
			}
		}
		for id := range strings.FieldsSeq(tt.misses) {
			if p.Match(spiffeid.RequireFromString(id)) {
				t.Errorf("%s matches %s", p, id)
			}
		}
		if p.Match(spiffeid.ID{}) {
			t.Errorf("%s matches nobody", p)
		}
	}
	if (policy.Pattern{}).Match(spiffeid.RequireFromString("spiffe://a.b/x")) {
		t.Error("the zero pattern matches")
	}
}

// matches is what a pattern means, written without regard for anything but being right.
func matches(pattern, id string) bool {
	p, i := strings.Split(strings.TrimPrefix(pattern, "spiffe://"), "/"), strings.Split(strings.TrimPrefix(id, "spiffe://"), "/")
	for n, segment := range p {
		switch {
		case n > 0 && segment == "**":
			return len(i) > n
		case n >= len(i):
			return false
		case n > 0 && segment == "*":
		case segment != i[n]:
			return false
		}
	}
	return len(p) == len(i)
}

func FuzzPattern(f *testing.F) {
	seeds, err := os.ReadFile("testdata/patterns.txt")
	if err != nil {
		f.Fatal("the seeds are gone: ", err)
	}
	n := 0
	for line := range strings.Lines(string(seeds)) {
		if pattern, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			f.Add(pattern, id)
			n++
		}
	}
	if n < 10 {
		f.Fatalf("%d seeds", n)
	}
	f.Fuzz(func(t *testing.T, text, idText string) {
		p, err := policy.ParsePattern(text)
		id, idErr := spiffeid.FromString(idText)
		if err != nil {
			if p.Match(id) {
				t.Errorf("a pattern that does not parse matches %s", id)
			}
			return
		}
		if p.String() != text {
			t.Errorf("%q is written %q", text, p)
		}
		if self, ok := p.ID(); ok && (self.String() != text || !p.Match(self)) {
			t.Errorf("%s names %s", p, self)
		}
		if idErr != nil || id.Path() == "" {
			return
		}
		if got, want := p.Match(id), matches(text, id.String()); got != want {
			t.Errorf("%s, %s: %v, want %v", p, id, got, want)
		}
		if p.Match(id) && !strings.HasPrefix(text, "spiffe://"+id.TrustDomain().Name()+"/") {
			t.Errorf("%s matches %s of another trust domain", p, id)
		}
	})
}
