package neural

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
)

// TestListeningAsNeeded compares the tokens of frames whose windows of the voice are heard
// when the first frame needs them with those of a voice that was heard to its end before,
// bit for bit: of a whole job, of a part, and of a job that takes its beginning, and
// windows in between, from a journal. Each window is heard once, and none before its time.
func TestListeningAsNeeded(t *testing.T) {
	every := func(from, to int64) (list []int64) {
		for frame := from; frame < to; frame += 3 {
			list = append(list, frame)
		}
		return list
	}
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		long := voice(t, "speech.wav", 34) // 102 s
		last := int64(long.Duration()*25) + 10
		for name, o := range map[string]Options{"latentsync": tiny(t, b), "musetalk": quickMuseTalk(t, b)} {
			whisper := listener(t, o)
			heard := func() int64 { return whisper.net.networks.find(workWhisper).Calls }
			for _, overlap := range []bool{true, false} {
				whole := whisper.to(long, overlap)
				all, hop := map[int64][]float32{}, whole.hop()
				for w := int64(0); w*hop < long.MelFrames()/2; w++ {
					v, err := whole.window(t.Context(), w)
					if err != nil {
						t.Fatal(err)
					}
					all[w] = v
				}
				whole.windows = all
				for what, frames := range map[string][]int64{
					"all frames":         every(0, last),
					"a part":             every(1100, 1900),
					"continued with one": append(every(900, 1000), every(2000, last)...),
				} {
					before := heard()
					f := whisper.to(long, overlap)
					windows := map[int64]bool{}
					for _, frame := range frames {
						got, want := f.tokensOf(t, frame), whole.tokensOf(t, frame)
						if !slices.Equal(got, want) {
							t.Fatalf("%s, overlap %v, %s: frame %d differs", name, overlap, what, frame)
						}
						// Five features after the frame's are the last that it can hear.
						latest := min(audio.FeatureAt(frame, 25, 1)+5, long.MelFrames()/2-1) / hop
						for w := range f.windows {
							if windows[w] = true; w > latest {
								t.Fatalf("%s, overlap %v, %s: window %d is heard for frame %d", name, overlap, what, w, frame)
							}
						}
						if len(f.windows) > 3 {
							t.Fatalf("%s: %d windows are kept", name, len(f.windows))
						}
					}
					if n := heard() - before; n != int64(len(windows)) {
						t.Errorf("%s, overlap %v, %s: %d windows were heard %d times", name, overlap, what, len(windows), n)
					}
				}
			}
		}
	})
}

// failing is a backend whose Whisper fails from a run on.
type failing struct {
	backend.Backend
	left *int
	err  error
}

func (b failing) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	s, err := b.Backend.Load(ctx, m, o)
	if err != nil || !strings.Contains(m.Name, "whisper") {
		return s, err
	}
	return failingSession{s, b}, nil
}

type failingSession struct {
	backend.Session
	b failing
}

func (s failingSession) RunValues(ctx context.Context, in map[string]backend.Value, keep func(string) bool) (map[string]backend.Value, error) {
	if *s.b.left--; *s.b.left < 0 {
		return nil, s.b.err
	}
	return s.Session.RunValues(ctx, in, keep)
}

// TestListeningFailsMidway checks the errors of a job whose Whisper fails, or which is
// cancelled, when the second window of the voice is due.
func TestListeningFailsMidway(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		for _, failure := range []error{errors.New("the driver is gone"), fault.Device.New("run", "the card is gone")} {
			left := 1
			o := job(t, failing{b, &left, failure})
			o.Voice = voice(t, "speech.wav", 12) // 36 s
			e := open(t, o)
			process(t, e, shotOf(picture, fc, 0, 6, 0))
			err := pushAll(t.Context(), e, shotOf(picture, fc, 800, 806, 0))
			if fault.KindOf(err) != fault.KindOf(failure) || !errors.Is(err, failure) || !strings.Contains(fmt.Sprint(err), "listen with Whisper") {
				t.Errorf("%v: %v", failure, err)
			}
		}
		o := job(t, b)
		o.Voice = voice(t, "speech.wav", 12)
		e := open(t, o)
		process(t, e, shotOf(picture, fc, 0, 6, 0))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := calls(e, workWhisper)
		if _, err := e.features.frame(ctx, 800, 25, 1); fault.KindOf(err) != fault.Cancelled || calls(e, workWhisper) != before {
			t.Errorf("cancelled: %v", err)
		}
	})
}
