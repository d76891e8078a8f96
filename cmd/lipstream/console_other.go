//go:build !windows

package main

import "os"

// showsEscapes reports whether a terminal follows escape sequences.
func showsEscapes(*os.File) bool { return os.Getenv("TERM") != "dumb" }
