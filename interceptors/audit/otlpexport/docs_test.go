//go:build unix

package otlpexport

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	"github.com/grpcguard/grpcguard/identity"
	"github.com/grpcguard/grpcguard/identity/authority"
	"github.com/grpcguard/grpcguard/interceptors/audit/otlpexport/collectortest"
)

var (
	collectorID = spiffeid.RequireFromString("spiffe://bank.example/collector")
	ledgerID    = spiffeid.RequireFromString("spiffe://bank.example/ledger")
)

// svidFiles writes a workload's X509-SVID, its key and the bundle as svid.pem, key.pem and bundle.pem.
func svidFiles(t *testing.T, a *authority.Authority, id spiffeid.ID) (dir string) {
	t.Helper()
	dir = t.TempDir()
	svid, err := a.MintX509SVID(id)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := a.X509Bundle().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"svid.pem": cert, "key.pem": key, "bundle.pem": bundle} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newAuthority(t *testing.T) *authority.Authority {
	t.Helper()
	a, err := authority.New(spiffeid.RequireTrustDomainFromString("bank.example"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// The connection is the user's own: here, mTLS between SPIFFE identities, with a collector that knows nothing of SPIFFE. Who pins the
// connection to somebody else sends nothing.
func TestWithSPIFFE(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	source, err := a.Workload(ledgerID)
	if err != nil {
		t.Fatal(err)
	}
	dir := svidFiles(t, a, collectorID)
	c := collectortest.New(t)
	c.TLS(filepath.Join(dir, "svid.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "bundle.pem"),
		identity.NewClientCredentials(source, spiffeid.MatchID(collectorID)))
	c.Restart()
	l := closedLedger(t, 10)
	drain(t, newExporter(t, l, c.Dial(t), quick(t)))
	if again := check(t, c.Logs(), 10); len(again) != 0 {
		t.Errorf("came again: %v", again)
	}

	c.TLS("", "", "", identity.NewClientCredentials(source, spiffeid.MatchID(ledgerID))) // of Dial; the collector runs as it is
	told := make(chan error, 100)
	opts := quick(t)
	opts.Timeout, opts.Trouble = 100e6, func(err error) { told <- err }
	e := newExporter(t, l, c.Dial(t), opts)
	run(t, e)
	if err := <-told; !strings.Contains(err.Error(), collectorID.String()) || e.Next() != 0 {
		t.Errorf("%d records went to somebody else: %v", e.Next(), err)
	}
}

// The Go that the docs show is that of the example, which compiles.
func TestTheDocumentedProgram(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```go\n")
	block, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("docs/export.md has no program")
	}
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(line, "err = ")
		if line != "// ..." && !strings.Contains(string(example), line) {
			t.Errorf("not in the example: %s", line)
		}
	}
}

// The configuration that the docs show is one that the collector takes. The module of splunk_hec is not to be had everywhere, so what is
// checked of it is that its settings are those that its documentation has, and the settings that all exporters share.
func TestTheDocumentedConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	block, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("docs/export.md has no configuration")
	}
	dir := svidFiles(t, newAuthority(t), collectorID)
	block = strings.NewReplacer("/run/spiffe", dir, "/etc/otelcol/jaeger-ca.pem", dir+"/bundle.pem", "/etc/otelcol/prometheus-ca.pem", dir+"/bundle.pem").Replace(block)
	var config map[string]any
	if err := yaml.Unmarshal([]byte(block), &config); err != nil {
		t.Fatal(err)
	}
	exporters := config["exporters"].(map[string]any)
	splunk := exporters["splunk_hec"].(map[string]any)
	own := []string{"token", "source", "sourcetype", "index"}
	for _, key := range own {
		delete(splunk, key)
	}
	if queue, retry := splunk["sending_queue"].(map[string]any), splunk["retry_on_failure"].(map[string]any); queue["enabled"] != false || retry["enabled"] != false {
		t.Errorf("splunk_hec must confirm what Splunk has taken, and nothing before: %v %v", queue, retry)
	}
	delete(exporters, "splunk_hec")
	exporters["otlp_http/splunk"] = splunk
	pipelines := config["service"].(map[string]any)["pipelines"].(map[string]any)
	logs := pipelines["logs"].(map[string]any)
	if at := slices.Index(logs["exporters"].([]any), any("splunk_hec")); at != 0 {
		t.Fatalf("the logs go to %v", logs["exporters"])
	}
	logs["exporters"] = []any{"otlp_http/splunk"}
	check := func(config map[string]any) (string, error) {
		out, err := yaml.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "collector.yaml")
		if err := os.WriteFile(file, out, 0o600); err != nil {
			t.Fatal(err)
		}
		program, err := collectortest.Program()
		if err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), program, "validate", "--config", "file:"+file).CombinedOutput()
		return string(said), err
	}
	if said, err := check(config); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	// It is a check that can fail.
	splunk["no_such_setting"] = true
	if said, err := check(config); err == nil || !strings.Contains(said, "no_such_setting") {
		t.Errorf("a setting that does not exist: %v\n%s", err, said)
	}
}
