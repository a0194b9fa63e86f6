package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"nothing":   {nil, ""},
		"all":       {[]string{"-quick", "-strict", "-only", "calls", "-dir", "x", "-out", "y", "-profile", "z"}, ""},
		"a subject": {[]string{"calls"}, `"calls" is no flag`},
		"unknown":   {[]string{"-fast"}, "flag provided but not defined: -fast"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			o, err := parse(tt.args, &said)
			if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want || !strings.Contains(said.String(), tt.want) {
				t.Errorf("%v: %s", err, said.String())
			}
			if want := (options{quick: true, strict: true, profiling: true, only: "calls", dir: "x", out: "y", profile: "z"}); name == "all" && o != want {
				t.Errorf("%+v", o)
			}
		})
	}
}

// What is not known is refused before anything is measured.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	if _, err := run(options{only: "speed", out: t.TempDir()}, io.Discard); err == nil || !strings.HasPrefix(err.Error(), `-only: there is no "speed"; there are decision, core, validation, calls,`) {
		t.Errorf("%v", err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if _, err := run(options{quick: true, only: "breaker", dir: ".", out: dir}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Limits and breakers", "a breaker that is closed, by failures in a row, beside gobreaker", "6 rows; of the goals ", "report.json"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "report.md")); err != nil {
		t.Error(err)
	}
}

// It is not parallel: a process has one CPU profile.
func TestProfile(t *testing.T) {
	b, dir := small(t), t.TempDir()
	b.turn = 5 * time.Millisecond
	var out bytes.Buffer
	list, err := chosen("breaker")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.profile(list, "open, by failures", dir, &out); err != nil {
		t.Fatal(err)
	}
	const row = "a-breaker-that-is-open-by-failures-in-a-row-beside-gobreaker"
	for _, name := range []string{"cpu", "allocs", "block", "mutex"} {
		path := filepath.Join(dir, "profile", row, name+".pprof")
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
		if !strings.Contains(out.String(), path) {
			t.Errorf("%s is not named:\n%s", path, out.String())
		}
	}
	if err := b.profile(list, "", dir, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "no row was named; ") {
		t.Errorf("%v", err)
	}
	err = b.profile(list, "no such row", dir, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "no row has \"no such row\" in its name; these can be profiled:\na breaker that is closed, by") {
		t.Errorf("%v", err)
	}
}

func TestParseBenchmarks(t *testing.T) {
	t.Parallel()
	got := parseBenchmarks("goos: linux\nBenchmarkA/x_y-2  100  12.5 ns/op  3 B/key\nBenchmarkA/x_y-2  100  13 ns/op\nPASS\n")
	if len(got) != 2 || len(got["A/x_y ns/op"]) != 2 || got["A/x_y ns/op"][0] != 12.5 || got["A/x_y B/key"][0] != 3 {
		t.Errorf("%v", got)
	}
}
