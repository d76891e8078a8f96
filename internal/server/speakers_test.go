package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/job"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/testdata/demo"
)

// TestSpeakers makes jobs of two speakers, as JSON and as a form.
func TestSpeakers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	video, a, b := r.upload("face.png", demo.Portrait), r.upload("a.wav", demo.Speech), r.upload("b.wav", demo.Speech)
	speakers := fmt.Sprintf(`"speakers":[{"face":"left","audio":{"upload":%q}},{"face":"right","audio":{"upload":%q}}]`, a, b)
	source := fmt.Sprintf(`{"upload":%q}`, video)
	r.made(`{"video":`+source+`,"soundtrack":{"upload":"`+a+`"},`+speakers+`}`, "application/json", []string{"a.wav", "b.wav"}, "a.wav")
	l := r.take()
	paths := make([]string, 4)
	for i, m := range l.Job.Inputs() {
		paths[i] = m.Name
	}
	got := l.Job.Spec.Job(paths)
	if len(got.Speakers) != 2 || got.Speakers[1] != (lipstream.Speaker{Face: "right", Audio: "b.wav"}) || got.Soundtrack != "a.wav" || got.Video != "face.png" {
		t.Errorf("the worker gets %+v", got)
	}

	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range []struct{ field, name string }{{"speaker.right", "r.wav"}, {"video", "face.png"}, {"speaker.left", "l.wav"}} {
		w, err := form.CreateFormFile(f.field, f.name)
		r.check(err)
		content := demo.Speech
		if f.field == "video" {
			content = demo.Portrait
		}
		_, err = w.Write(content)
		r.check(err)
	}
	r.check(form.WriteField("spec", `{"video":{},"speakers":[{"face":"right","audio":{}}]}`))
	r.check(form.Close())
	r.made(body.String(), form.FormDataContentType(), []string{"r.wav", "l.wav"}, "")

	// One speaker too many is refused before its file is read, and the others are removed.
	body.Reset()
	form = multipart.NewWriter(&body)
	for i := range job.MaxSpeakers + 1 {
		w, err := form.CreateFormFile(fmt.Sprint("speaker.", i+1), "a.wav")
		r.check(err)
		_, err = w.Write([]byte("sound"))
		r.check(err)
	}
	r.check(form.Close())
	before := len(r.s.uploads.all())
	if text := r.status(400, "POST", "/v1/jobs", body.String(), "Content-Type: "+form.FormDataContentType()); !strings.Contains(text, "more than 6 speakers") {
		t.Error(text)
	}
	if after := len(r.s.uploads.all()); after != before {
		t.Errorf("%d uploads, %d before", after, before)
	}

	for _, c := range []struct{ spec, want string }{
		{`{"video":` + source + `,"audio":{"upload":"` + a + `"},` + speakers + `}`, "`audio`: the voice cannot be set together with `speakers`"},
		{`{"video":` + source + `,` + strings.ReplaceAll(speakers, "right", "left") + `}`, "`speakers`: left is the face of two speakers"},
		{`{"video":` + source + `,"speakers":[{"face":"left","audio":{}}]}`, "the speaker left needs either an upload or a path"},
		{`{"video":` + source + `}`, "audio needs either an upload or a path"},
	} {
		if text := r.status(400, "POST", "/v1/jobs", c.spec, "Content-Type: application/json"); !strings.Contains(text, c.want) {
			t.Errorf("%s, want %s", text, c.want)
		}
	}
}

// made posts a request and checks the voices and the soundtrack of its job.
func (r *rig) made(body, kind string, voices []string, soundtrack string) {
	r.t.Helper()
	text := r.status(201, "POST", "/v1/jobs", body, "Content-Type: "+kind)
	var j queue.Job
	r.check(json.Unmarshal([]byte(text), &j))
	if len(j.Voices) != len(voices) || j.Audio.Name != "" || (j.Soundtrack != nil) != (soundtrack != "") {
		r.t.Fatalf("the job is %s", text)
	}
	for i, v := range j.Voices {
		if v.Name != voices[i] || v.Path != "" || v.Object != "" {
			r.t.Errorf("voice %d is %+v", i, v)
		}
	}
	if soundtrack != "" && *j.Soundtrack != (queue.Media{Name: soundtrack, Size: j.Soundtrack.Size}) {
		r.t.Errorf("the soundtrack is %+v", j.Soundtrack)
	}
}
