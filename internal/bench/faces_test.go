package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/testdata/demo"
)

// shared is a backend that all tests share.
type shared struct{ backend.Backend }

func (shared) Close() error { return nil }

// faces runs the benchmark on ONNX Runtime, which compiles the networks faster.
func faces(t *testing.T, o FacesOptions) (*FacesReport, error) {
	t.Helper()
	o.Threads = 1
	return o.measure(t.Context(), func() (backend.Backend, error) { return shared{sharedtest.Open(t, "onnxruntime")}, nil })
}

// TestFaces checks that every case reaches its goal.
func TestFaces(t *testing.T) {
	backendtest.SkipShort(t)
	r, err := faces(t, FacesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) < 70 {
		t.Errorf("%d cases", len(r.Cases))
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if err := r.Missed(); err != nil {
		t.Errorf("%v\n%s", err, &table)
	}
	// The goals of all cases together are stricter than those of each.
	for key, most := range map[string]float64{"error": 1.5, "mouth": 1.2, "outside": 0} {
		if f := find(t, r.Figures, key); !(f.Value <= most) {
			t.Errorf("%s is %v, want at most %v", key, f.Value, most)
		}
	}
	if f := find(t, r.Figures, "found"); f.Value != 100 {
		t.Errorf("the face is found in %v %% of the frames", f.Value)
	}
}

// TestFacesFew measures few cases, with the picture in a file, the sheet and JSON.
func TestFacesFew(t *testing.T) {
	dir := t.TempDir()
	picture, path := filepath.Join(dir, "me.png"), filepath.Join(dir, "sheet.png")
	if err := os.WriteFile(picture, demo.Portrait, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := faces(t, FacesOptions{Pictures: []string{picture}, Only: "180 degrees, dark", Sheet: path})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 1 || r.Missed() != nil {
		t.Fatalf("cases %+v, missed %v", r.Cases, r.Missed())
	}
	c := r.Cases[0]
	if c.Picture != "me.png" || c.Found != c.Frames || c.Outside != 0 || !(*c.Error < 2) || !(*c.Mouth < 2) {
		t.Errorf("%+v", c)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Rect(0, 0, tileSide, tileSide+tileText); sheet.Bounds() != want {
		t.Errorf("the sheet is %v, want %v", sheet.Bounds(), want)
	}
	var out bytes.Buffer
	if err := (Output{JSON: true}).Write(&out, r); err != nil {
		t.Fatal(err)
	}
	var read struct{ Cases []FacesCase }
	if err := json.Unmarshal(out.Bytes(), &read); err != nil || len(read.Cases) != 1 || read.Cases[0].Name != c.Name || read.Cases[0].Want != "must" {
		t.Errorf("JSON %v, %v", read, err)
	}
}

func TestFacesBadInput(t *testing.T) {
	dir := t.TempDir()
	text, blank := filepath.Join(dir, "text.png"), filepath.Join(dir, "blank.png")
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{text: []byte("text"), blank: b.Bytes()} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		o    FacesOptions
		kind fault.Kind
		text string
	}{
		{FacesOptions{Pictures: []string{filepath.Join(dir, "none.png")}}, fault.Input, "none.png"},
		{FacesOptions{Pictures: []string{text}}, fault.Input, "text.png"},
		{FacesOptions{Pictures: []string{blank}}, fault.NoFace, "blank.png"},
		{FacesOptions{Only: "nothing like it"}, fault.Usage, "nothing like it"},
	} {
		_, err := faces(t, c.o)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: error %v", c.o, err)
		}
	}
}

// TestFacesMissed checks which results fail.
func TestFacesMissed(t *testing.T) {
	r := FacesReport{Cases: []FacesCase{{Group: "dark", Name: "a", OK: true}, {Group: "small", Name: "b"}}}
	if err := r.Missed(); err == nil || !strings.Contains(err.Error(), "small: b") || strings.Contains(err.Error(), "dark") {
		t.Errorf("error %v", err)
	}
	if kind := fault.KindOf(r.Missed()); kind != fault.Internal {
		t.Errorf("the demo's portrait: kind %v", kind)
	}
	r.own = true
	if kind := fault.KindOf(r.Missed()); kind != fault.Input {
		t.Errorf("a user's picture: kind %v", kind)
	}
}
