//go:build unix

package collectortest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	pkg  = "github.com/grpcguard/grpcguard/interceptors/audit/otlpexport/collectortest"
	lock = "grpcguard-collector.lock"
)

// Program builds the collector and returns the path of the program, which is in Go's build cache. The first time on a machine it
// takes a minute or two; then, a second. It needs the go command, as every test does that was not built in advance.
var Program = sync.OnceValues(func() (string, error) {
	// Two packages' tests at a time would compile all of it twice.
	f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("%s.%d", lock, os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	dir, err := goCommand("", "list", "-f", "{{.Dir}}", pkg)
	if err != nil {
		return "", err
	}
	return goCommand(filepath.Join(dir, "collector"), "tool", "-n", "collector")
})

// goCommand runs the go command and returns what it says. Workspaces know nothing of the collector's module.
func goCommand(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v in %s: %w\n%s", cmd.Args, dir, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
