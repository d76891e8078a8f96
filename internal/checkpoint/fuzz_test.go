package checkpoint

import (
	"os"
	"path/filepath"
	"testing"
)

// tryRead reads data as a checkpoint; what can be read must hold together.
func tryRead(t *testing.T, data []byte) {
	f := newFile("fuzz", data, func() error { return nil })
	if f.read() != nil {
		return
	}
	if len(f.names) == 0 || len(f.names) != len(f.entries) {
		t.Fatalf("%d names, %d tensors", len(f.names), len(f.entries))
	}
	for _, name := range f.Names() {
		x := f.Tensor(name)
		if x == nil || x.DType.Size() == 0 || x.Len() < 0 || len(x.Data) != x.Len()*x.DType.Size() {
			t.Fatalf("%q is %+v", name, x)
		}
	}
	_ = f.Finite(t.Context(), nil)
	_ = f.Check("x", []Want{{Name: "w", Shape: []int{4}}}, nil)
	_ = f.Close()
}

func addFiles(f *testing.F, pattern string) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 1<<16 {
			f.Add(data)
		}
	}
}

// FuzzTorch changes whole files: the zip above all, since a changed pickle
// fails its checksum.
func FuzzTorch(f *testing.F) {
	addFiles(f, "testdata/*.pt")
	f.Add(torchSample(f, "state_dict"))
	f.Add(torchSample(f, ""))
	f.Fuzz(tryRead)
}

// FuzzPickle changes the pickle inside of a good zip.
func FuzzPickle(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.pt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if a, err := openArchive(data); err == nil {
			pickle, err := a.read("data.pkl", maxPickle)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(pickle))
		}
	}
	f.Add("\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.")
	f.Add(stateDict(tensorPickle(storagePickle("FloatStorage", "0", n4), "K\x00", vec4, one)))
	f.Add(stateDict(tensorPickle(storagePickle("HalfStorage", "0", n4), "K\x02", "K\x02\x85", one)))
	f.Fuzz(func(t *testing.T, pickle string) { tryRead(t, torchFile(t, pickle)) })
}

func FuzzSafetensors(f *testing.F) {
	addFiles(f, "testdata/*.safetensors")
	f.Add(safetensorsSample(f))
	f.Add(safetensorsFile(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}`, "123456789"))
	f.Add(safetensorsFile(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}`, "123456789"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if looksLikeSafetensors(data) {
			tryRead(t, data)
		}
	})
}
