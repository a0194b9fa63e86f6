package main

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// alone runs the core's own benchmarks: what cannot be reached from outside of it.
func (w *world) alone(out io.Writer) error {
	cmd := exec.Command("go", "test", "./policy", "./interceptors", "-run", "^$", "-bench", "Decide|Stages|Chain|ContextAlone|Refused", "-benchtime", "300ms")
	cmd.Dir = ".."
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Benchmark") {
			fmt.Fprint(out, line)
		}
	}
	return nil
}
