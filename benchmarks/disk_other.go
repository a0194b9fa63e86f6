//go:build !linux

package main

import "os"

func fileSystem(string) (name string, inMemory bool, err error) {
	return "unknown file system", false, nil
}

func datasync(f *os.File) error { return f.Sync() }
