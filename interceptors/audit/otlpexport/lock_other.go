//go:build !unix

package otlpexport

import (
	"errors"
	"os"
)

func lock(string) (*os.File, error) {
	return nil, errors.New("otlpexport: this system has no flock, and journals are not written on it")
}

func unlock(*os.File) error { return nil }
