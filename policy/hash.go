package policy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
)

// hashPolicy hashes what a policy allows, denies and records, in one fixed order, and nothing of where or how it is written. Every part
// is preceded by its length, so that no two policies can be written the same.
func hashPolicy(p *Policy, denied []string, controls map[*Rule][]proto.Message) string {
	h := sha256.New()
	part(h, "grpcguard policy 2")
	part(h, strings.Join(sorted(denied), "\n"))
	for _, name := range slices.Sorted(maps.Keys(p.names)) {
		part(h, name)
		var bound []string
		for _, pattern := range p.names[name] {
			bound = append(bound, pattern.String())
		}
		part(h, strings.Join(sorted(bound), "\n"))
	}
	part(h, "")
	for r := range p.Rules() {
		part(h, r.method)
		part(h, fmt.Sprint(r.ClientStreams(), r.ServerStreams(), r.maxDeadline.Nanoseconds(), r.maxRequest, r.maxResponse, r.otherwise.Reason))
		part(h, r.denied.canonical())
		part(h, r.callers.canonical())
		for _, l := range r.limits {
			part(h, l.Name)
		}
		for _, control := range controls[r] {
			text, err := proto.MarshalOptions{Deterministic: true}.Marshal(control)
			if err != nil {
				// A policy that cannot be told from another one must not pass for it.
				text = fmt.Append(text, err, rand.Text())
			}
			part(h, string(text))
		}
		part(h, fmt.Sprint(r.class, r.transaction.canonical()))
		part(h, "")
	}
	return hex.EncodeToString(h.Sum(nil))
}

func part(h hash.Hash, s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// canonical lists a set in an order that does not depend on how it was declared: it is a set.
func (s *callerSet) canonical() string {
	texts := slices.Collect(maps.Keys(s.many))
	for _, e := range s.few {
		texts = append(texts, e.id)
	}
	for _, p := range s.patterns {
		texts = append(texts, p.pattern.String())
	}
	return strings.Join(sorted(texts), "\n")
}
