package main

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// library is what the headers of a shared library say.
type library struct {
	imports []string        // the names of other libraries
	exports map[string]bool // the names of functions and variables
	beside  bool            // the loader searches its folder for the imports
}

// parse reads the headers of a library for Linux, Windows or macOS.
func parse(data []byte) (library, error) {
	switch {
	case bytes.HasPrefix(data, []byte(elf.ELFMAG)):
		return parseELF(data)
	case bytes.HasPrefix(data, []byte("MZ")):
		return parsePE(data)
	default:
		return parseMachO(data)
	}
}

func parseELF(data []byte) (library, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return library{}, err
	}
	l := library{exports: map[string]bool{}}
	if l.imports, err = f.ImportedLibraries(); err != nil {
		return library{}, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return library{}, err
	}
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF {
			l.exports[s.Name] = true
		}
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return library{}, err
		}
		l.beside = l.beside || slices.Contains(strings.Split(strings.Join(paths, ":"), ":"), "$ORIGIN")
	}
	return l, nil
}

func parseMachO(data []byte) (library, error) {
	fat, err := macho.NewFatFile(bytes.NewReader(data))
	if errors.Is(err, macho.ErrNotFat) {
		f, err := macho.NewFile(bytes.NewReader(data))
		if err != nil {
			return library{}, err
		}
		return machO(f)
	}
	if err != nil {
		return library{}, err
	}
	i := slices.IndexFunc(fat.Arches, func(a macho.FatArch) bool { return a.Cpu == macho.CpuArm64 })
	if i < 0 {
		return library{}, errors.New("it has no part for arm64")
	}
	return machO(fat.Arches[i].File)
}

func machO(f *macho.File) (library, error) {
	imports, err := f.ImportedLibraries()
	if err != nil {
		return library{}, err
	}
	l := library{exports: map[string]bool{}}
	for _, name := range imports {
		// "@rpath/libtbb.12.dylib" is found beside the library, if the rpath says so.
		name = strings.TrimPrefix(name, "@rpath/")
		l.imports = append(l.imports, strings.TrimPrefix(name, "@loader_path/"))
	}
	for _, load := range f.Loads {
		if r, ok := load.(*macho.Rpath); ok && strings.TrimSuffix(r.Path, "/") == "@loader_path" {
			l.beside = true
		}
	}
	const external, kind, defined = 0x01, 0x0e, 0x0e // N_EXT, N_TYPE, N_SECT
	for _, s := range f.Symtab.Syms {
		if s.Type&external != 0 && s.Type&kind == defined {
			l.exports[strings.TrimPrefix(s.Name, "_")] = true
		}
	}
	return l, nil
}

func parsePE(data []byte) (library, error) {
	f, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		return library{}, err
	}
	// The folder of the library is searched for the others, because the program loads it
	// with LOAD_WITH_ALTERED_SEARCH_PATH.
	l := library{exports: map[string]bool{}, beside: true}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return library{}, err
	}
	for _, s := range symbols {
		_, dll, _ := strings.Cut(s, ":")
		if dll = strings.ToLower(dll); !slices.Contains(l.imports, dll) {
			l.imports = append(l.imports, dll)
		}
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || header.NumberOfRvaAndSizes == 0 {
		return library{}, errors.New("it is not a 64-bit library with exports")
	}
	// at returns the bytes at an address relative to the image.
	at := func(address uint32) []byte {
		for _, s := range f.Sections {
			if address >= s.VirtualAddress && address-s.VirtualAddress < s.Size {
				return data[s.Offset:][address-s.VirtualAddress : s.Size]
			}
		}
		return nil
	}
	// IMAGE_EXPORT_DIRECTORY: NumberOfNames is at 24, AddressOfNames at 32.
	directory := at(header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT].VirtualAddress)
	if len(directory) < 40 {
		return library{}, errors.New("it exports nothing")
	}
	names := at(binary.LittleEndian.Uint32(directory[32:]))
	for i := range binary.LittleEndian.Uint32(directory[24:]) {
		name, _, _ := bytes.Cut(at(binary.LittleEndian.Uint32(names[4*i:])), []byte{0})
		l.exports[string(name)] = true
	}
	return l, nil
}

// closure returns the libraries of a folder that those named need, with themselves, and
// adds to problems what keeps them from being loaded.
func closure(folder map[string]library, names []string) (needed, problems []string) {
	todo := slices.Clone(names)
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if slices.Contains(needed, name) {
			continue
		}
		needed = append(needed, name)
		l := folder[name]
		for _, i := range l.imports {
			switch _, found := folder[i]; {
			case i == name: // on macOS, a library may name itself
			case found && !l.beside:
				problems = append(problems, fmt.Sprintf("%s needs %s, and the loader does not look beside it", name, i))
			case found:
				todo = append(todo, i)
			case !ofSystem(i):
				problems = append(problems, fmt.Sprintf("%s needs %s, which neither the wheel nor the system has", name, i))
			}
		}
	}
	slices.Sort(needed)
	return needed, problems
}

// systemLibraries are patterns of the libraries that systems have: glibc, GCC's runtime,
// Windows, and Microsoft's C++ runtime, which is installed with the runtimes.
var systemLibraries = []string{
	"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6", "ld-linux-*.so.*",
	"kernel32.dll", "advapi32.dll", "user32.dll", "ole32.dll", "shell32.dll", "shlwapi.dll", "dbghelp.dll", "setupapi.dll", "cfgmgr32.dll",
	"dxgi.dll", "d3d1?.dll", "dxcore.dll", "opencl.dll", "ws2_32.dll", "bcrypt.dll", "ntdll.dll", "psapi.dll", "api-ms-win-*.dll",
	"msvcp140*.dll", "vcruntime140*.dll",
}

func ofSystem(name string) bool {
	if strings.HasPrefix(name, "/usr/lib/") || strings.HasPrefix(name, "/System/Library/") {
		return true
	}
	return slices.ContainsFunc(systemLibraries, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // the patterns are valid
		return ok
	})
}
