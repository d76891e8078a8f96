package backendtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

func refusesWrongInputs(t *testing.T, b backend.Backend) {
	s := load(t, b, affine())
	good := tensor.New(tensor.F32, 1, 2)
	short := tensor.New(tensor.F32, 1, 2)
	short.Data = short.Data[:4]
	for name, in := range map[string]map[string]*tensor.Tensor{
		"none":       nil,
		"name":       {"z": good},
		"nil":        {"x": nil},
		"extra":      {"x": good, "z": good},
		"rank":       {"x": tensor.New(tensor.F32, 2)},
		"dimension":  {"x": tensor.New(tensor.F32, 1, 3)},
		"type":       {"x": tensor.New(tensor.I64, 1, 2)},
		"short data": {"x": short},
	} {
		if out, err := s.Run(t.Context(), in); err == nil {
			t.Errorf("%s: no error, but %v", name, out)
		} else if _, ok := errors.AsType[*fault.Error](err); !ok {
			t.Errorf("%s: the error is a %T", name, err)
		}
	}
	run(t, s, map[string]*tensor.Tensor{"x": good})
}

func refusesBrokenModels(t *testing.T, b backend.Backend) {
	whole := affine()
	var unknown Graph
	unknown.Node("NoSuchOperator", []string{"x"}, []string{"y"})
	unknown.Input("x", tensor.F32, 1)
	unknown.Output("y", tensor.F32, 1)
	dir := t.TempDir()
	text := filepath.Join(dir, "text.onnx")
	if err := os.WriteFile(text, []byte("this is not a model\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut.onnx")
	if err := os.WriteFile(cut, whole[:len(whole)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]backend.Model{
		"nothing":          {},
		"text":             {Bytes: []byte("this is not a model")},
		"zeros":            {Bytes: make([]byte, 100)},
		"truncated":        {Bytes: whole[:len(whole)/2]},
		"unknown operator": {Bytes: unknown.Bytes()},
		"no file":          {Path: filepath.Join(dir, "none.onnx")},
		"text file":        {Path: text},
		"a folder":         {Path: dir},
		"cut file":         {Path: cut},
	} {
		m.Name = name
		s, err := b.Load(t.Context(), m, cpu)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if fault.KindOf(err) != fault.Input {
			t.Errorf("%s: kind %d of: %v", name, fault.KindOf(err), err)
		}
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name the model: %v", name, err)
		}
	}
}

func refusesOptions(t *testing.T, b backend.Backend) {
	for _, o := range []backend.Options{
		{Device: "abacus"}, {Device: "cuda:x"}, {Device: "gpu:99"},
		{Device: "cpu", Precision: "f8"}, {Device: "cpu", Precision: backend.F16, Threads: -1},
	} {
		s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, o)
		if err == nil {
			s.Close()
			t.Errorf("%+v: no error", o)
		} else if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" && o.Threads >= 0 {
			t.Errorf("%+v: kind %d, hint %q of: %v", o, fault.KindOf(err), fault.HintOf(err), err)
		}
	}
}
