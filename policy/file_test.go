package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/grpcguard/grpcguard/policy"
	grpcguardv1 "github.com/grpcguard/grpcguard/proto/grpcguard/v1"
)

func TestFilesThatSayTooLittleOrTwoThings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, yaml string
		want       []string
	}{
		{"an unknown key", "nmes: {}\n", []string{`policy.yaml:1:1: unknown key "nmes"; did you mean "names"?`}},
		{"an unknown key in a rule", "methods:\n  /a.B/C:\n    caller: [x]\n", []string{`policy.yaml:3:5: unknown key "caller"; did you mean "callers"?`}},
		{"a key in another spelling", "denyList: []\n", []string{`policy.yaml:1:1: unknown key "denyList"; did you mean "deny_list"?`}},
		{"several mistakes at once", "nmes: {}\nrevison: x\n", []string{
			`policy.yaml:1:1: unknown key "nmes"; did you mean "names"?`, `policy.yaml:2:1: unknown key "revison"; did you mean "revision"?`,
		}},
		{"a key twice", "revision: a\nrevision: b\n", []string{`policy.yaml:2:1: "revision" is given twice, first on line 1`}},
		{"a name twice", "names:\n  a: {spiffe_ids: [\"spiffe://a.b/c\"]}\n  a: {spiffe_ids: [\"spiffe://a.b/d\"]}\n", []string{
			`policy.yaml:3:3: "a" is given twice, first on line 2`,
		}},
		{"a second document", "revision: a\n---\nrevision: b\n", []string{`policy.yaml:2:1: a second document; a policy file has one`}},
		{"an alias", "names:\n  a: &x {spiffe_ids: [\"spiffe://a.b/c\"]}\n  b: *x\n", []string{
			"policy.yaml:2:6: anchors and aliases are not taken: write it out", "policy.yaml:3:6: anchors and aliases are not taken: write it out",
		}},
		{"a merge key", "names:\n  <<: {}\n", nil},
		{"a tag", "revision: !!str 1\n", []string{"policy.yaml:1:11: the tag !!str is not taken"}},
		{"no value", "names:\n", []string{"policy.yaml:1:7: no value is given"}},
		{"no value for a list", "methods:\n  /a.B/C:\n    callers:\n", []string{"policy.yaml:3:13: no value is given"}},
		{"null", "revision: null\n", []string{"policy.yaml:1:11: no value is given"}},
		{"a list", "- a\n", []string{"policy.yaml:1:1: keys and values are wanted"}},
		{"a word", "hello\n", []string{"policy.yaml:1:1: keys and values are wanted"}},
		{"a word for a list", "methods:\n  /a.B/C:\n    callers: teller\n", []string{"policy.yaml:3:14: callers is a list: write [teller]"}},
		{"a list of nobody", "methods:\n  /a.B/C: {callers: []}\n", []string{"policy.yaml:2:21: callers is empty, which says nothing; to close a method write nobody: true"}},
		{"a deadline of zero", "methods:\n  /a.B/C: {max_deadline: 0}\n", nil},
		{"a deadline of minus zero", "methods:\n  /a.B/C: {max_deadline: -0}\n", nil},
		{"a deadline of zero seconds", "methods:\n  /a.B/C: {max_deadline: 0s}\n", nil},
		{"a truth that is none", "methods:\n  /a.B/C: {nobody: maybe}\n", nil},
		{"a list for a word", "revision: [a]\n", []string{"policy.yaml:1:11: a single value is wanted"}},
		{"a mapping for a duration", "methods:\n  /a.B/C:\n    max_deadline: {seconds: 1}\n", []string{`policy.yaml:3:19: a duration such as "30s" is wanted`}},
		{"not UTF-8", "revision: \xff\n", []string{"policy.yaml:1:11: the file is not UTF-8"}},
		{"a name with a blank", "names:\n  \"a b\": {spiffe_ids: [\"spiffe://a.b/c\"]}\n", nil},
		{"a name for nothing", "names:\n  a: {spiffe_ids: []}\n", nil},
		{"a serial in capitals", "deny_list:\n  - serial: ABC\n", nil},
		{"an entry for nobody", "deny_list:\n  - reason: x\n", nil},
		{"an entry for two", "deny_list:\n  - {serial: ab, spiffe_id: \"spiffe://a.b/c\"}\n", nil},
		{"a size of nothing", "methods:\n  /a.B/C: {max_request_bytes: 0}\n", nil},
		{"a negative deadline", "methods:\n  /a.B/C: {max_deadline: -1s}\n", nil},
		{"a deadline without a unit", "methods:\n  /a.B/C: {max_deadline: 5}\n", nil},
		{"a number that is none", "methods:\n  /a.B/C: {max_request_bytes: many}\n", nil},
		{"a broken bracket", "names: {\n", nil},
		{"a tab", "names:\n\ta: b\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.ParseFile("policy.yaml", []byte(tt.yaml))
			if tt.want != nil {
				wantErrors(t, err, tt.want...)
				return
			}
			// The schema's own rules, and YAML's: what counts is that the line is there, and one line for each.
			if err == nil {
				t.Fatal("no error")
			}
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "policy.yaml:") || !strings.ContainsAny(line[12:13], "123456789") {
					t.Errorf("no position in %q", line)
				}
			}
		})
	}
}

func TestFilesThatSayNothing(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{"", "\n", "# only a comment\n", "---\n", "{}\n"} {
		if _, err := policy.ParseFile("policy.yaml", []byte(yaml)); err != nil {
			t.Errorf("%q: %v", yaml, err)
		}
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [*" + strings.Repeat(p+",*", 8) + p + "]\n"
	}
	for name, yaml := range map[string]string{
		"an alias bomb":  bomb,
		"deep nesting":   "names: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"a wide mapping": "names:\n" + strings.Repeat("  ? {a: b}\n  : c\n", 1000),
		"too large":      strings.Repeat("# comment\n", 2<<20),
	} {
		if _, err := policy.ParseFile("policy.yaml", []byte(yaml)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if _, err := policy.ReadFile(path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(names), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(path, one(callers("teller")).build(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Rule(buy).Decide(policy.Subject{ID: spiffeid.RequireFromString("spiffe://bank.test/teller")}); !d.Allowed {
		t.Errorf("%+v", d)
	}
}

func FuzzPolicyFile(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(seeds) < 3 {
		f.Fatalf("the seeds are gone: %v %v", seeds, err)
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	shop := one(&grpcguardv1.Rule{Callers: []string{"teller", "spiffe://bank.test/x"}}).build(f)
	foreign := policy.Subject{ID: spiffeid.RequireFromString("spiffe://never.named.invalid/x"), Serial: "1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := policy.ParseFile("policy.yaml", data)
		if err != nil {
			return
		}
		p, err := policy.Compile(file, shop)
		if err != nil {
			return
		}
		again, err := policy.Compile(file, shop)
		if err != nil || again.Hash() != p.Hash() {
			t.Fatalf("compiled twice: %v, %s, %s", err, p.Hash(), again.Hash())
		}
		for r := range p.Rules() {
			if d := r.Decide(policy.Subject{}); d.Allowed {
				t.Fatalf("nobody is allowed: %+v", d)
			}
			if d := r.Decide(foreign); d.Allowed && !strings.Contains(string(data), "never.named.invalid") {
				t.Fatalf("a stranger is allowed: %+v", d)
			}
			if d := r.Decide(foreign); *d != *again.Rule(r.Method()).Decide(foreign) {
				t.Fatalf("two answers: %+v", d)
			}
		}
	})
}
