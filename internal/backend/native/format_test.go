package native

import (
	"bytes"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// bytesOf returns values as they are in memory, in the given order of bytes.
func bytesOf(t *testing.T, order binary.ByteOrder, values ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, order, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// makeDLL returns a library for Windows that needs others. A version of zero is left out.
func makeDLL(t *testing.T, v version, imports ...string) []byte {
	t.Helper()
	const address, offset = 0x1000, 0x400
	var names []byte
	data := []byte{}
	start := 20 * (len(imports) + 1) // of the names
	for _, n := range imports {
		data = append(data, bytesOf(t, binary.LittleEndian, [3]uint32{}, uint32(address+start+len(names)), uint32(0))...)
		names = append(names, n+"\x00"...)
	}
	data = slices.Concat(data, make([]byte, 20), names)
	var h pe.OptionalHeader64
	h.Magic, h.NumberOfRvaAndSizes = 0x20b, 16
	if len(imports) > 0 {
		h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_IMPORT] = pe.DataDirectory{VirtualAddress: address, Size: uint32(start)}
	}
	if v != (version{}) {
		resource := bytesOf(t, binary.LittleEndian, [3]uint32{}, uint32(0xfeef04bd), uint32(0x10000), v[1], v[0], v[3], v[2], [9]uint32{})
		h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_RESOURCE] = pe.DataDirectory{VirtualAddress: uint32(address + len(data)), Size: uint32(len(resource))}
		data = append(data, resource...)
	}
	section := pe.SectionHeader32{Name: [8]uint8{'.', 'r', 'd', 'a', 't', 'a'}, VirtualSize: uint32(len(data)), VirtualAddress: address, SizeOfRawData: uint32(len(data)), PointerToRawData: offset}
	file := pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(h)), Characteristics: pe.IMAGE_FILE_DLL}
	head := make([]byte, 64)
	copy(head, "MZ")
	head[0x3c] = 64
	head = append(head, bytesOf(t, binary.LittleEndian, [4]byte{'P', 'E'}, file, h, section)...)
	return slices.Concat(head, make([]byte, offset-len(head)), data)
}

// makeDylib returns a library for macOS.
func makeDylib(t *testing.T, cpu macho.Cpu, kind macho.Type) []byte {
	t.Helper()
	const size = 1000
	segment := macho.Segment64{Cmd: macho.LoadCmdSegment64, Len: 72, Name: [16]byte{'_', '_', 'T'}, Filesz: size}
	head := bytesOf(t, binary.LittleEndian, macho.FileHeader{Magic: macho.Magic64, Cpu: cpu, Type: kind, Ncmd: 1, Cmdsz: 72}, uint32(0), segment)
	return append(head, make([]byte, size-len(head))...)
}

func save(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFormats checks libraries of other systems, whole and damaged.
func TestFormats(t *testing.T) {
	dll, dylib := makeDLL(t, version{1}, "a.dll"), makeDylib(t, macho.CpuArm64, macho.TypeDylib)
	program := slices.Clone(dll)
	program[64+4+18+1] &^= pe.IMAGE_FILE_DLL >> 8
	fat := append(bytesOf(t, binary.BigEndian, uint32(macho.MagicFat), uint32(2),
		macho.FatArchHeader{Cpu: macho.CpuAmd64, Offset: 100, Size: 1000}, macho.FatArchHeader{Cpu: macho.CpuArm64, Offset: 1100, Size: 1000}), make([]byte, 52)...)
	fat = slices.Concat(fat, makeDylib(t, macho.CpuAmd64, macho.TypeDylib), dylib)
	for name, c := range map[string]struct {
		check func(string, uint64, string) error
		data  []byte
		arch  string
		want  string // part of the error, "" for none
	}{
		"dll":                {checkPE, dll, "amd64", ""},
		"dll, cut":           {checkPE, dll[:len(dll)-1], "amd64", "it is incomplete: section .rdata ends"},
		"dll, head only":     {checkPE, dll[:100], "amd64", "not a complete DLL"},
		"dll, other machine": {checkPE, dll, "arm64", "it is built for machine 0x8664, and this machine is arm64"},
		"exe":                {checkPE, program, "amd64", "a program"},
		"empty":              {checkPE, nil, "amd64", "not a complete DLL"},

		"dylib":                {checkMachO, dylib, "arm64", ""},
		"bundle":               {checkMachO, makeDylib(t, macho.CpuArm64, macho.TypeBundle), "arm64", ""},
		"dylib, cut":           {checkMachO, dylib[:len(dylib)-1], "arm64", "it is incomplete: segment __T ends at byte 1000"},
		"dylib, text":          {checkMachO, []byte("this is no library\n"), "arm64", "not a complete library for macOS"},
		"dylib, other machine": {checkMachO, dylib, "amd64", "it is built for CpuArm64"},
		"macho program":        {checkMachO, makeDylib(t, macho.CpuArm64, macho.TypeExec), "arm64", "not a library"},
		"fat, first":           {checkMachO, fat, "amd64", ""},
		"fat, second":          {checkMachO, fat, "arm64", ""},
		"fat, cut":             {checkMachO, fat[:len(fat)-1], "arm64", "it is incomplete: segment __T ends at byte 2100, the file has 2099"},
	} {
		t.Run(name, func(t *testing.T) {
			path := save(t, t.TempDir(), "library", c.data)
			err := c.check(path, uint64(len(c.data)), c.arch)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := safely(func() error { panic("x") }); err == nil || !strings.Contains(err.Error(), "not a readable library: x") {
		t.Errorf("a panic: %v", err)
	}
}

func TestImports(t *testing.T) {
	dir := t.TempDir()
	want := []string{"MSVCP140.dll", "b.dll"}
	if got, err := Imports(save(t, dir, "a.dll", makeDLL(t, version{}, want...))); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Imports(save(t, dir, "none.dll", makeDLL(t, version{}))); err != nil || got != nil {
		t.Errorf("none: %q, %v", got, err)
	}
	cut := makeDLL(t, version{}, want...)
	if got, err := Imports(save(t, dir, "cut.dll", cut[:len(cut)-3])); err == nil {
		t.Errorf("damaged: %q", got)
	}
	if _, err := Imports(save(t, dir, "text", []byte("text"))); err == nil {
		t.Error("text has imports")
	}
}

// TestMissing: a library is missing also if another one needs it.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	top := save(t, dir, "top.dll", makeDLL(t, version{}, "kernel32.dll", "api-ms-win-crt-heap-l1-1-0.dll", "Middle.dll", "gone.dll", "text.dll"))
	save(t, dir, "Middle.dll", makeDLL(t, version{}, "top.dll", "MSVCP140.dll", "GONE.dll"))
	save(t, dir, "text.dll", []byte("text"))
	system := t.TempDir()
	save(t, system, "kernel32.dll", makeDLL(t, version{}, "ntdll.dll"))
	got := missing(top, finder(dir, []string{"relative", system}))
	if want := []string{"gone.dll", "MSVCP140.dll"}; !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
	if text := (&MissingError{got}).Error(); text != "it needs gone.dll, MSVCP140.dll, which were not found" {
		t.Error(text)
	}
	if text := (&MissingError{got[:1]}).Error(); text != "it needs gone.dll, which was not found" {
		t.Error(text)
	}
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	path, alone := save(t, dir, "a.dll", makeDLL(t, version{}, "gone-from-here.dll")), save(t, dir, "alone.dll", makeDLL(t, version{}))
	other := errors.New("other")
	for _, c := range []struct {
		path string
		err  error
		want string
	}{
		{path, moduleNotFound, "it needs gone-from-here.dll, which was not found"},
		{alone, moduleNotFound, "one of the libraries that it needs is missing"},
		{path, procedureNotFound, "has another version"},
		{path, other, "other"},
	} {
		if err := explain(c.path, c.err); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.err, err, c.want)
		}
	}
}

// TestCRT: the version of Microsoft's C++ runtime decides.
func TestCRT(t *testing.T) {
	dir := t.TempDir()
	at := func(name string, v version) string {
		folder := filepath.Join(dir, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		return save(t, folder, "MSVCP140.dll", makeDLL(t, v))
	}
	old, good, newer := at("old", version{14, 29, 30133, 0}), at("good", version{14, 40, 33810, 0}), at("newer", version{14, 44, 35211, 0})
	if v, err := fileVersion(newer); err != nil || v.String() != "14.44.35211.0" {
		t.Errorf("version %v, %v", v, err)
	}
	if err := checkCRT(good); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		old:                                     "its version is 14.29.30133.0, and ONNX Runtime needs 14.40",
		at("none", version{}):                   "it has no version",
		filepath.Join(dir, "old", "gone.dll"):   "use Microsoft's C++ runtime",
		save(t, dir, "text.dll", []byte("zip")): "use Microsoft's C++ runtime",
	} {
		if err := checkCRT(path); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), want) || !strings.Contains(fault.HintOf(err), "lipstream runtime install onnxruntime") {
			t.Errorf("%s: %v, hint %q", path, err, fault.HintOf(err))
		}
	}
	files := []string{filepath.Join(dir, "newer", "vcruntime140.dll"), newer}
	for installed, want := range map[string]bool{old: true, newer: false, filepath.Join(dir, "gone.dll"): true} {
		if newerCRT(files, installed) != want {
			t.Errorf("newer than %s: %v", installed, !want)
		}
	}
	if newerCRT(nil, old) || newerCRT([]string{old}, good) {
		t.Error("no runtime, or an older one, is newer")
	}
	for name, want := range map[string]bool{"MSVCP140_ATOMIC_WAIT.dll": true, "VCRUNTIME140.dll": true, "tbb12.dll": false} {
		if isCRT(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
