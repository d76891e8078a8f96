package main

import (
	"os"
	"runtime"
	"slices"
	"testing"
)

func TestStemOf(t *testing.T) {
	for name, want := range map[string]string{
		"libopenvino_c.so.2641": "openvino_c", "libopenvino_c.2641.dylib": "openvino_c", "openvino_c.dll": "openvino_c",
		"libopenvino_arm_cpu_plugin.so": "openvino_arm_cpu_plugin", "libonnxruntime.1.32.0.dylib": "onnxruntime",
		"libhwloc.dylib": "hwloc", "cache.json": "", "libtbbbind_2_5.3.dylib": "tbbbind_2_5",
	} {
		if got := stemOf(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestClosure(t *testing.T) {
	folder := map[string]library{
		"a.so": {imports: []string{"b.so", "libc.so.6", "a.so"}, beside: true},
		"b.so": {imports: []string{"c.so"}},
		"c.so": {imports: []string{"/usr/lib/libc++.1.dylib", "lost.so"}, beside: true},
		"d.so": {beside: true},
	}
	needed, problems := closure(folder, []string{"a.so"})
	if want := []string{"a.so", "b.so"}; !slices.Equal(needed, want) || len(problems) != 1 {
		t.Errorf("needed %v, problems %q", needed, problems)
	}
	needed, problems = closure(folder, []string{"c.so", "d.so"})
	if want := []string{"c.so", "d.so"}; !slices.Equal(needed, want) || len(problems) != 1 {
		t.Errorf("needed %v, problems %q", needed, problems)
	}
}

// TestParse reads this test's own program.
func TestParse(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := parse(data); err == nil && runtime.GOOS == "linux" && l.beside {
		t.Errorf("the loader looks beside %s", program)
	}
	if _, err := parse(data[:40]); err == nil {
		t.Error("a file that was cut off is a library")
	}
}

func TestBound(t *testing.T) {
	for _, r := range runtimes {
		if names, err := bound("../../" + r.source); err != nil || len(names) == 0 {
			t.Errorf("%s: %v, %v", r.source, names, err)
		}
	}
}
