package policy

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const scheme = "spiffe://"

// Pattern matches SPIFFE IDs of one trust domain by the segments of their paths: a literal segment matches itself, "*" matches
// any one segment, and "**", which can only be the last, matches one segment or more. The zero Pattern matches nothing.
type Pattern struct {
	text     string
	domain   spiffeid.TrustDomain
	segments []string // without a final "**"
	rest     bool     // the pattern ends with "**"
	wild     bool     // it has a wildcard at all
}

// ParsePattern reads a SPIFFE ID or pattern. It takes nothing that is not exactly right: no upper-case trust domain, no empty
// or dotted segments, no wildcard in a part of a segment or in place of the trust domain, and no path-less ID, which
// no workload has.
func ParsePattern(s string) (Pattern, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return Pattern{}, fmt.Errorf("%q does not begin with %q", s, scheme)
	}
	name, path, ok := strings.Cut(rest, "/")
	if strings.Contains(name, "*") {
		return Pattern{}, fmt.Errorf("%q: the trust domain cannot be a wildcard", s)
	}
	domain, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return Pattern{}, fmt.Errorf("%q: %s", s, reasonOf(err))
	}
	if !ok {
		return Pattern{}, fmt.Errorf("%q names a trust domain and no workload; %q matches all of its workloads", s, s+"/**")
	}
	p := Pattern{text: s, domain: domain, segments: strings.Split(path, "/")}
	for i, segment := range p.segments {
		last := i == len(p.segments)-1
		switch {
		case segment == "**" && last:
			p.rest, p.wild = true, true
			p.segments = p.segments[:i]
		case segment == "**":
			return Pattern{}, fmt.Errorf("%q: ** can only be the last segment", s)
		case segment == "*":
			p.wild = true
		case strings.Contains(segment, "*"):
			return Pattern{}, fmt.Errorf("%q: a wildcard takes the place of a whole segment, not a part of %q", s, segment)
		default:
			if err := spiffeid.ValidatePathSegment(segment); err != nil {
				return Pattern{}, fmt.Errorf("%q: %s", s, reasonOf(err))
			}
		}
	}
	return p, nil
}

// reasonOf takes the package's name off an error of go-spiffe, which means nothing to who wrote the pattern.
func reasonOf(err error) string { return strings.TrimPrefix(err.Error(), "spiffeid: ") }

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// ID returns the SPIFFE ID that p names, if it has no wildcard.
func (p Pattern) ID() (spiffeid.ID, bool) {
	if p.wild || p.text == "" {
		return spiffeid.ID{}, false
	}
	id, err := spiffeid.FromString(p.text)
	return id, err == nil
}

// Match reports whether id matches. It compares the trust domain and whole segments, and allocates nothing.
func (p Pattern) Match(id spiffeid.ID) bool {
	if p.text == "" || id.TrustDomain() != p.domain {
		return false
	}
	path, ok := strings.CutPrefix(id.Path(), "/")
	if !ok {
		return false
	}
	more := true
	for _, want := range p.segments {
		if !more {
			return false
		}
		var segment string
		segment, path, more = strings.Cut(path, "/")
		if want != "*" && want != segment {
			return false
		}
	}
	return more == p.rest
}

// covers reports whether every ID that q matches is matched by p as well.
func (p Pattern) covers(q Pattern) bool {
	if p.domain != q.domain || q.rest && !p.rest {
		return false
	}
	if p.rest {
		// What is left for p's "**" is one segment at least; q's own "**" is one at least.
		least := len(q.segments)
		if q.rest {
			least++
		}
		if least < len(p.segments)+1 {
			return false
		}
	} else if len(p.segments) != len(q.segments) {
		return false
	}
	for i, want := range p.segments {
		if want != "*" && (i >= len(q.segments) || want != q.segments[i]) {
			return false
		}
	}
	return true
}

// Matcher says whether a SPIFFE ID is one that a client is willing to talk to. Its zero value matches nothing.
type Matcher struct {
	name     string
	patterns []Pattern
	denied   *callerSet
}

// Match returns nil if id is accepted. It has the form of go-spiffe's spiffeid.Matcher.
func (m Matcher) Match(id spiffeid.ID) error {
	if !m.Matches(id) {
		return fmt.Errorf("%s is not %s", id, m.name)
	}
	return nil
}

// Matches reports whether id is accepted.
func (m Matcher) Matches(id spiffeid.ID) bool {
	if m.denied != nil && m.denied.find(id) != nil {
		return false
	}
	for _, p := range m.patterns {
		if p.Match(id) {
			return true
		}
	}
	return false
}
