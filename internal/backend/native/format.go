package native

import (
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"runtime"
)

// checkFormat reads the headers of the library at path, in the format of this system.
func checkFormat(path string, size int64) error {
	check := map[string]func(string, uint64, string) error{"windows": checkPE, "darwin": checkMachO}[runtime.GOOS]
	if check == nil {
		check = checkELF
	}
	return safely(func() error { return check(path, uint64(size), runtime.GOARCH) })
}

// safely returns a panic of f as an error. The packages below debug promise errors, not
// panics, for broken input. But the file is about to be loaded into the process.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is not a readable library: %v", r)
		}
	}()
	return f()
}

// inside returns an error unless a part of the file ends before the file does.
func inside(what string, offset, length, size uint64) error {
	if offset > size || length > size-offset {
		return fmt.Errorf("it is incomplete: %s ends at byte %d, the file has %d", what, offset+length, size)
	}
	return nil
}

func otherMachine(is any, arch string) error {
	return fmt.Errorf("it is built for %v, and this machine is %s", is, arch)
}

// elfMachines maps architectures to ELF machines.
var elfMachines = map[string]elf.Machine{
	"amd64":   elf.EM_X86_64,
	"arm64":   elf.EM_AARCH64,
	"riscv64": elf.EM_RISCV,
	"loong64": elf.EM_LOONGARCH,
}

// checkELF checks a library for Linux. elf.Open reads the section headers, which are at
// the end of the file, so it fails for a truncated file. For files without sections,
// the program headers are compared with the size.
func checkELF(path string, size uint64, arch string) error {
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
	if want, ok := elfMachines[arch]; ok && f.Machine != want {
		return otherMachine(f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			if err := inside("a segment", p.Off, p.Filesz, size); err != nil {
				return err
			}
		}
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS {
			if err := inside("section "+s.Name, s.Offset, s.FileSize, size); err != nil {
				return err
			}
		}
	}
	return nil
}

// peMachines maps architectures to the machines of Windows' libraries.
var peMachines = map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}

// checkPE checks a library for Windows.
func checkPE(path string, size uint64, arch string) error {
	f, err := pe.Open(path)
	if err != nil {
		return fmt.Errorf("it is not a complete DLL: %w", err)
	}
	defer f.Close()
	if f.Characteristics&pe.IMAGE_FILE_DLL == 0 {
		return errors.New("it is a program, not a DLL")
	}
	if want, ok := peMachines[arch]; ok && f.Machine != want {
		return otherMachine(fmt.Sprintf("machine 0x%x", f.Machine), arch)
	}
	for _, s := range f.Sections {
		if err := inside("section "+s.Name, uint64(s.Offset), uint64(s.Size), size); err != nil {
			return err
		}
	}
	return nil
}

// machoCPUs maps architectures to the processors of macOS' libraries.
var machoCPUs = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}

// checkMachO checks a library for macOS, for one processor or for several. OpenVINO's
// plugins are bundles, which can be loaded as well.
func checkMachO(path string, size uint64, arch string) error {
	var f *macho.File
	start := uint64(0)
	fat, err := macho.OpenFat(path)
	if err == nil {
		defer fat.Close()
		for _, a := range fat.Arches {
			if f == nil || a.Cpu == machoCPUs[arch] {
				f, start = a.File, uint64(a.Offset)
			}
		}
	} else {
		if f, err = macho.Open(path); err != nil {
			return fmt.Errorf("it is not a complete library for macOS: %w", err)
		}
		defer f.Close()
	}
	if f.Type != macho.TypeDylib && f.Type != macho.TypeBundle {
		return fmt.Errorf("it is a file of type %v, not a library", f.Type)
	}
	if want, ok := machoCPUs[arch]; ok && f.Cpu != want {
		return otherMachine(f.Cpu, arch)
	}
	for _, l := range f.Loads {
		if s, ok := l.(*macho.Segment); ok {
			if err := inside("segment "+s.Name, start+s.Offset, s.Filesz, size); err != nil {
				return err
			}
		}
	}
	return nil
}
