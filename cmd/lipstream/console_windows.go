package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// showsEscapes makes a console follow escape sequences, and reports whether it can:
// before Windows 10 it printed them.
func showsEscapes(f *os.File) bool {
	var mode uint32
	console := windows.Handle(f.Fd())
	return windows.GetConsoleMode(console, &mode) == nil &&
		windows.SetConsoleMode(console, mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
