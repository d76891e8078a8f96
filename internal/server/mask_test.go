package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

// TestMask takes a mask as an upload, keeps it as long as its job may need it, and passes it
// on to an estimate.
func TestMask(t *testing.T) {
	var asked lipstream.Job
	r := newRig(t, func(o *Options) {
		o.Estimate = func(_ context.Context, j lipstream.Job) (lipstream.Estimate, error) {
			asked = j
			return lipstream.Estimate{}, fault.Input.Wrap("", errors.New("read mask "+j.Mask+": it is round"))
		}
	})
	const kind = "Content-Type: application/json"
	mask := r.upload("my mask.png", demo.Portrait)
	spec := fmt.Sprintf(`{"video":{"upload":%q},"audio":{"upload":%q},"mask":%%s%%s}`, r.upload("face.png", demo.Portrait), r.upload("voice.wav", demo.Speech))
	ours := fmt.Sprintf(`{"upload":%q}`, mask)
	for source, status := range map[string]int{`{"path":"/etc/passwd"}`: 400, `{"upload":"none"}`: 404, `{}`: 400, `{"upload":""}`: 400, `{"upload":"a","path":"/b"}`: 400, `7`: 400} {
		r.status(status, "POST", "/v1/jobs", fmt.Sprintf(spec, source, ""), kind)
	}
	body := r.status(201, "POST", "/v1/jobs", fmt.Sprintf(spec, ours, ""), kind)
	var j queue.Job
	r.check(json.Unmarshal([]byte(body), &j))
	if j.Mask.Name != "my mask.png" || j.Mask.Size != int64(len(demo.Portrait)) || j.Mask.Path != "" || j.Mask.Object != "" {
		t.Errorf("the client sees %+v", j.Mask)
	}
	stored, err := r.s.o.Queue.Job(t.Context(), j.ID)
	r.check(err)
	if stored.Mask.Path == "" && stored.Mask.Object == "" || stored.Spec.Mask.Upload != mask {
		t.Errorf("the worker sees %+v", stored.Mask)
	}
	r.s.sweep(t.Context(), time.Now().Add(time.Hour))
	r.status(200, "GET", "/v1/uploads/"+mask, "")

	if b := r.status(422, "POST", "/v1/estimate", fmt.Sprintf(spec, ours, ""), kind); asked.Mask == "" || !strings.Contains(b, "read mask my mask.png: it is round") {
		t.Errorf("mask %q, answer %s", asked.Mask, b)
	}

	// A restoration network is named, never a file.
	for restore, status := range map[string]int{"gfpgan-1.4": 201, "../gfpgan": 400, "/etc/passwd": 400, "gfpgan.onnx": 400} {
		if b := r.status(status, "POST", "/v1/jobs", fmt.Sprintf(spec, ours, fmt.Sprintf(`,"restore":%q`, restore)), kind); status == 400 && !strings.Contains(b, "is a path") {
			t.Error(b)
		}
	}
}

// TestMaskInForm sends the mask with the other files. Another mask makes another job.
func TestMaskInForm(t *testing.T) {
	r := newRig(t, nil)
	post := func(want int, mask []byte) (j queue.Job) {
		t.Helper()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for _, f := range []struct {
			name    string
			content []byte
		}{{"mask", mask}, {"video", demo.Portrait}, {"audio", demo.Speech}} {
			w, err := form.CreateFormFile(f.name, f.name+".png")
			r.check(err)
			_, err = w.Write(f.content)
			r.check(err)
		}
		r.check(form.Close())
		r.check(json.Unmarshal([]byte(r.status(want, "POST", "/v1/jobs", body.String(), "Content-Type: "+form.FormDataContentType(), "Idempotency-Key: mask")), &j))
		return j
	}
	first := post(201, demo.Portrait)
	if again := post(200, demo.Portrait); again.ID != first.ID || first.Mask.Name != "mask.png" {
		t.Errorf("%+v, then %+v", first, again)
	}
	post(422, demo.Speech)
}
