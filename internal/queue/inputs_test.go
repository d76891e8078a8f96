package queue

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream"
)

func TestInputs(t *testing.T) {
	media := func(names ...string) (list []Media) {
		for _, n := range names {
			list = append(list, Media{Name: n})
		}
		return list
	}
	two := []Speaker{{Face: "left"}, {Face: "right"}}
	for _, c := range []struct {
		spec  Spec
		names []string
		want  lipstream.Job
		heard string
	}{
		{Spec{}, []string{"v", "a"}, lipstream.Job{Video: "v", Audio: "a"}, "a"},
		{Spec{Soundtrack: &Source{}}, []string{"v", "a", "s"}, lipstream.Job{Video: "v", Audio: "a", Soundtrack: "s"}, "s"},
		{Spec{Speakers: two}, []string{"v", "l", "r"},
			lipstream.Job{Video: "v", Speakers: []lipstream.Speaker{{Face: "left", Audio: "l"}, {Face: "right", Audio: "r"}}}, "l"},
		{Spec{Speakers: two, Soundtrack: &Source{}}, []string{"v", "l", "r", "s"},
			lipstream.Job{Video: "v", Soundtrack: "s", Speakers: []lipstream.Speaker{{Face: "left", Audio: "l"}, {Face: "right", Audio: "r"}}}, "s"},
		{Spec{Mask: &Source{Upload: "m"}}, []string{"v", "a", "m"}, lipstream.Job{Video: "v", Audio: "a", Mask: "m"}, "a"},
		{Spec{Mask: &Source{Upload: "m"}, Speakers: two, Soundtrack: &Source{}}, []string{"v", "l", "r", "s", "m"},
			lipstream.Job{Video: "v", Soundtrack: "s", Mask: "m", Speakers: []lipstream.Speaker{{Face: "left", Audio: "l"}, {Face: "right", Audio: "r"}}}, "s"},
	} {
		if got := len(c.spec.Inputs()); got != len(c.names) {
			t.Fatalf("%v: %d inputs", c.names, got)
		}
		if d := cmp.Diff(c.want, c.spec.Job(c.names), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Frame" }, cmp.Ignore())); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.names, d)
		}
		j := Job{Spec: c.spec}
		j.SetInputs(media(c.names...))
		if got := j.Inputs(); !slices.Equal(got, media(c.names...)) {
			t.Errorf("%v: %v", c.names, got)
		}
		if j.Heard().Name != c.heard {
			t.Errorf("%v: heard is %v", c.names, j.Heard())
		}
	}
	both := Spec{Audio: Source{Upload: "x"}, Speakers: two}
	if err := both.Job(nil).Check(); err == nil {
		t.Error("a voice beside speakers is not refused")
	}
}
