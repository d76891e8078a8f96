package native

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

// Imports returns the names of the libraries that the library at path is linked with, a
// library of Linux or Windows.
func Imports(path string) (names []string, err error) {
	err = safely(func() error {
		if f, err := elf.Open(path); err == nil {
			defer f.Close()
			names, err = f.ImportedLibraries()
			return err
		}
		f, err := pe.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		names, err = peImports(f)
		return err
	})
	return names, err
}

// peImports reads the import directory. ImportedLibraries of debug/pe always returns
// nothing.
func peImports(f *pe.File) (names []string, err error) {
	dir := directory(f, pe.IMAGE_DIRECTORY_ENTRY_IMPORT)
	if dir.Size == 0 {
		return nil, nil
	}
	// struct IMAGE_IMPORT_DESCRIPTOR { DWORD OriginalFirstThunk, TimeDateStamp, ForwarderChain, Name, FirstThunk; }
	for at := dir.VirtualAddress; ; at += 20 {
		d := make([]byte, 20)
		if readAt(f, at, d) < len(d) {
			return nil, errors.New("its list of imports is damaged")
		}
		name := binary.LittleEndian.Uint32(d[12:])
		if name == 0 {
			return names, nil
		}
		text := make([]byte, 260)
		text, _, found := bytes.Cut(text[:readAt(f, name, text)], []byte{0})
		if !found {
			return nil, errors.New("its list of imports is damaged")
		}
		names = append(names, string(text))
	}
}

// directory returns one of the tables in a library's header, empty if it has none.
func directory(f *pe.File, entry int) pe.DataDirectory {
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || int(h.NumberOfRvaAndSizes) <= entry {
		return pe.DataDirectory{}
	}
	return h.DataDirectory[entry]
}

// readAt fills b from an address of the loaded library, and returns how much of it is in
// the file.
func readAt(f *pe.File, address uint32, b []byte) int {
	for _, s := range f.Sections {
		if address >= s.VirtualAddress && address-s.VirtualAddress < s.Size {
			n, _ := s.ReadAt(b, int64(address-s.VirtualAddress)) // less at the end of the section
			return n
		}
	}
	return 0
}

// version is the version of a library for Windows.
type version [4]uint16

// String returns the version as Windows shows it, such as "14.44.35211.0".
func (v version) String() string { return fmt.Sprintf("%d.%d.%d.%d", v[0], v[1], v[2], v[3]) }

// maxResources bounds how much of a library's resources is searched, in bytes.
const maxResources = 1 << 20

// fileVersion reads the version of the library for Windows at path.
func fileVersion(path string) (v version, err error) {
	err = safely(func() error {
		f, err := pe.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		dir := directory(f, pe.IMAGE_DIRECTORY_ENTRY_RESOURCE)
		b := make([]byte, min(dir.Size, maxResources))
		b = b[:readAt(f, dir.VirtualAddress, b)]
		// struct VS_FIXEDFILEINFO { DWORD dwSignature, dwStrucVersion, dwFileVersionMS, dwFileVersionLS, ... }
		at := bytes.Index(b, []byte("\xbd\x04\xef\xfe\x00\x00\x01\x00"))
		if at < 0 || len(b) < at+16 {
			return errors.New("it has no version")
		}
		for i, from := range []int{10, 8, 14, 12} { // each word has its high half last
			v[i] = binary.LittleEndian.Uint16(b[at+from:])
		}
		return nil
	})
	return v, err
}
