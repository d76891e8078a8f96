// Package disktest helps tests of files.
package disktest

import "golang.org/x/sys/windows"

// ReplacesOpenFiles reports whether the system can replace a file that is open. Wine cannot.
func ReplacesOpenFiles() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil
}
