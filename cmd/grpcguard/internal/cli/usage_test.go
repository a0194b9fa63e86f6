package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A command line that makes no sense ends with 2, and says why in the words of who wrote it.
func TestUsage(t *testing.T) {
	t.Parallel()
	w := bank(t)
	private := filepath.Join(filepath.Dir(w.key), "audit.skey")
	empty := t.TempDir()
	tests := []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"nonsense"}, 2, `grpcguard audit: there is no command "nonsense"`},
		{[]string{"verify", "-nonsense"}, 2, "grpcguard audit verify: flag provided but not defined: -nonsense\nusage: grpcguard audit verify DIR -key FILE [-since FILE] [-known FILE ...]\n"},
		{[]string{"verify"}, 2, "which folder holds the journal?"},
		{[]string{"verify", w.dir}, 2, "-key is missing: without a verifier key nothing can be believed"},
		{[]string{"verify", w.dir, w.dir, "-key", w.key}, 2, "one folder holds a journal, and 2 arguments are given"},
		{[]string{"verify", w.dir, "-key", "nowhere"}, 2, "-key: open nowhere: no such file or directory"},
		{[]string{"verify", w.dir, "-key", private}, 2, "audit.skey holds the key that signs; give the one that verifies, audit.vkey"},
		{[]string{"verify", w.dir, "-key", filepath.Join(w.dir, "checkpoint")}, 2, "holds no verifier key: malformed verifier id"},
		{[]string{"verify", "nowhere", "-key", w.key}, 2, "stat nowhere: no such file or directory"},
		{[]string{"verify", w.key, "-key", w.key}, 2, "is no folder"},
		{[]string{"verify", empty, "-key", w.key}, 1, empty + " holds no journal"},
		{[]string{"verify", w.dir, "-key", w.key, "-known", "nowhere"}, 2, "-known: open nowhere: no such file or directory"},
		{[]string{"verify", w.dir, "-key", w.key, "-since", w.key}, 1, "-since " + w.key + ": journal: the checkpoint does not verify"},
		{[]string{"query", w.dir, "-key", w.key, "-from", "yesterday"}, 2, `-from: "yesterday" is no time such as 2026-11-24T09:00:00Z, no date such as 2026-11-24, and no duration before now such as -24h`},
		{[]string{"query", w.dir, "-key", w.key, "-to", "24h"}, 2, `-to: "24h" is no time`},
		{[]string{"query", w.dir, "-key", w.key, "-from", "-1h", "-to", "-2h"}, 2, "-from -1h is not before -to -2h"},
		{[]string{"query", w.dir, "-key", w.key, "-outcome", "good"}, 2, `-outcome: "good" is none of ok, denied, failed, panicked, unread, degraded`},
		{[]string{"query", w.dir, "-key", w.key, "-type", "x"}, 2, `-type: "x" is none of call, intent, answered, outcome, denials, event, journal, foreign`},
		{[]string{"query", w.dir, "-key", w.key, "-format", "xml"}, 2, `-format: "xml" is none of table, json, csv`},
		{[]string{"query", w.dir, "-key", w.key, "-call", "12"}, 2, `-call: "12" is not 32 hexadecimal digits`},
		{[]string{"query", w.dir, "-key", w.key, "-caller", "spiffe://*/x"}, 2, `-caller: "spiffe://*/x": the trust domain cannot be a wildcard`},
		{[]string{"query", w.dir, "-key", w.key, "-sensitive-key", w.key}, 2, "-sensitive-key is for -account and -transaction, and neither is given"},
		{[]string{"query", w.dir, "-key", w.key, "-limit", "-1"}, 2, `invalid value "-1" for flag -limit`},
		{[]string{"tail", w.dir, "-key", w.key, "-n", "-1"}, 2, "-n is -1"},
		{[]string{"prove", w.dir, "-key", w.key}, 2, "a folder and the index of a record are needed, or -id; 1 arguments are given"},
		{[]string{"prove", w.dir, "first", "-key", w.key}, 2, `"first" is no index of a record`},
		{[]string{"prove", w.dir, "-key", w.key, "-id", "x"}, 2, `-id: audit: "x" is no record ID`},
		{[]string{"prove", w.dir, "10", "-key", w.key}, 1, "record 10 is not covered by the checkpoint of 10 records"},
		{[]string{"verify-proof", "-key", w.key}, 2, "a proof is needed, and at most a record; 0 arguments are given"},
		{[]string{"export", w.dir, "-key", w.key}, 2, "-out is missing: where should the export go?"},
		{[]string{"export", w.dir, "-key", w.key, "-out", filepath.Join(empty, "x"), "-format", "table"}, 2, `-format: "table" is none of jsonl, csv`},
		{[]string{"export", w.dir, "-key", w.key, "-check", "x", "-caller", anna}, 2, "-caller: -check takes what was exported from the manifest"},
		{[]string{"export", w.dir, "-key", w.key, "-check", w.key}, 1, w.key + " is no manifest of an export"},
		{[]string{"keygen"}, 2, "one name makes one key pair, and 0 are given"},
		{[]string{"keygen", "two words", "-out", empty}, 2, `"two words" cannot be the name of a key`},
		{[]string{"keygen", origin, "-out", filepath.Dir(w.key)}, 1, w.key + " is there already, and is not written over"},
	}
	for _, tt := range tests {
		status, stdout, stderr := w.run(tt.args...)
		if status != tt.status || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit status %d\n%s%s\nwant %d and %s", tt.args, status, stdout, stderr, tt.status, tt.want)
		}
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) > 0 {
		t.Errorf("files were written: %v %v", files, err)
	}
}

// Each command has a help with an example of itself.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"help"}, {"-h"}, {"version"}, {"audit"}, {"audit", "-h"}} {
		var out, stderr bytes.Buffer
		if status := Run(context.Background(), args, nil, &out, &stderr); status != 0 || !strings.Contains(out.String(), "grpcguard") || stderr.Len() > 0 {
			t.Errorf("%q: exit status %d\n%s%s", args, status, out.String(), stderr.String())
		}
	}
	for _, c := range commands() {
		var out, stderr bytes.Buffer
		status := Run(context.Background(), []string{"audit", c.name, "-h"}, nil, &out, &stderr)
		for _, want := range []string{"usage: grpcguard audit " + c.name + " " + c.args, "\n  grpcguard audit " + c.name + " ", "\nflags:\n"} {
			if status != 0 || !strings.Contains(out.String(), want) || stderr.Len() > 0 {
				t.Errorf("%s: exit status %d\n%s%s\nwant %s", c.name, status, out.String(), stderr.String(), want)
			}
		}
	}
	var out, stderr bytes.Buffer
	if status := Run(context.Background(), []string{"serve"}, nil, &out, &stderr); status != 2 || !strings.HasPrefix(stderr.String(), "grpcguard: there is no command \"serve\"\n") {
		t.Errorf("exit status %d, %s", status, stderr.String())
	}
}

// The key that signs is for its owner only, and is never written over.
func TestKeygen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Dir(w.key)
	secret := filepath.Join(dir, "audit.skey")
	info, err := os.Stat(secret)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	before := w.read(secret)
	if err := os.Remove(w.key); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := w.run("keygen", origin, "-out", dir); status != 1 || !strings.Contains(stderr, secret+" is there already") {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	if w.read(secret) != before {
		t.Error("the key was written over")
	}
}
