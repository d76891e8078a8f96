package native

import (
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
)

// machines maps architectures to ELF machines.
var machines = map[string]elf.Machine{
	"amd64":   elf.EM_X86_64,
	"arm64":   elf.EM_AARCH64,
	"riscv64": elf.EM_RISCV,
	"loong64": elf.EM_LOONGARCH,
}

// checkFormat reads the ELF headers. elf.Open reads the section headers, which are at
// the end of the file, so it fails for a truncated file. For files without sections,
// the program headers are compared with the size.
func checkFormat(path string, size int64) (err error) {
	// debug/elf promises errors, not panics, for broken input. But the file is about
	// to be loaded into the process, so a panic becomes an error too.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is not a readable ELF library: %v", r)
		}
	}()
	f, err := elf.Open(path)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) {
			return fmt.Errorf("it is not an ELF library: %w", err)
		}
		return fmt.Errorf("it is a damaged or incomplete ELF library: %w", err)
	}
	defer f.Close()
	if f.Type != elf.ET_DYN {
		return fmt.Errorf("it is an ELF file of type %v, not a shared library", f.Type)
	}
	if want, ok := machines[runtime.GOARCH]; ok && f.Machine != want {
		return fmt.Errorf("it is built for %v, and this machine is %v", f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && (p.Off > uint64(size) || p.Filesz > uint64(size)-p.Off) {
			return fmt.Errorf("it is incomplete: a segment ends at byte %d, the file has %d", p.Off+p.Filesz, size)
		}
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS && (s.Offset > uint64(size) || s.FileSize > uint64(size)-s.Offset) {
			return fmt.Errorf("it is incomplete: section %s ends at byte %d, the file has %d", s.Name, s.Offset+s.FileSize, size)
		}
	}
	return nil
}
