//go:build unix && !linux

package journal

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func datasync(f *os.File) error { return f.Sync() }

// syncTree makes the files of dir durable that changed of late, and its folders.
func syncTree(dir string) error {
	since := time.Now().Add(-2 * syncEvery)
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || info.ModTime().Before(since) {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return f.Sync()
	})
}
