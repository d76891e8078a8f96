package memory

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

type dll struct{ handle windows.Handle }

func openLibrary(name string) (library, error) {
	flags := uintptr(windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	if name == "" {
		// Drivers since 2018 install it in the system's folder. A library of this
		// name elsewhere must not be loaded.
		dir, err := windows.GetSystemDirectory()
		if err != nil {
			return nil, err
		}
		name, flags = filepath.Join(dir, "nvml.dll"), windows.LOAD_LIBRARY_SEARCH_SYSTEM32
	}
	h, err := windows.LoadLibraryEx(name, 0, flags)
	if err != nil {
		return nil, err
	}
	return dll{h}, nil
}

func (d dll) symbol(name string) (uintptr, error) { return windows.GetProcAddress(d.handle, name) }
func (d dll) close() error                        { return windows.FreeLibrary(d.handle) }
