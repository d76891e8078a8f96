package memory

import "github.com/ebitengine/purego"

type dlLibrary uintptr

func openLibrary(name string) (library, error) {
	if name == "" {
		name = "libnvidia-ml.so.1"
	}
	h, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	return dlLibrary(h), nil
}

func (l dlLibrary) symbol(name string) (uintptr, error) { return purego.Dlsym(uintptr(l), name) }
func (l dlLibrary) close() error                        { return purego.Dlclose(uintptr(l)) }
