package media

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// Join concatenates videos of the same kind without encoding them again, and adds
// the sound that o names. The output appears under its name only when it is
// complete.
func Join(ctx context.Context, tools Tools, parts []string, path string, o SinkOptions) error {
	s, err := newSink(ctx, tools, path, o)
	if err != nil {
		return err
	}
	list := s.temp + ".txt"
	var lines strings.Builder
	for _, p := range parts {
		info, err := Probe(ctx, tools, p)
		if err == nil {
			err = info.NeedVideo()
		}
		if err != nil {
			return err
		}
		if p, err = filepath.Abs(p); err != nil {
			return fault.Input.Wrap("join video "+p, err)
		}
		if strings.ContainsAny(p, "\r\n") {
			return fault.Input.New("join video "+p, "its name has a line break")
		}
		s.codec = info.Video.Codec
		s.n += info.Video.Frames
		fmt.Fprintf(&lines, "file 'file:%s'\n", strings.ReplaceAll(p, "'", `'\''`))
		if v := info.Video; v.Frames > 0 && v.FrameRate.Float() > 0 {
			// The duration in the file is rounded; over many parts that would add up.
			fmt.Fprintf(&lines, "duration %s\n", seconds(float64(v.Frames)/v.FrameRate.Float()))
		}
	}
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		return fault.Output.Wrap(s.op, fault.WithoutPath(err))
	}
	defer func() { _ = os.Remove(list) }()
	in := []string{"-protocol_whitelist", "file,pipe", "-f", "concat", "-safe", "0", "-i", fileURL(list)}
	args, err := s.muxArgs(in, []string{"-c:v", "copy"}, s.temp)
	if err != nil {
		return err
	}
	if err := s.start(args, nil); err != nil {
		return err
	}
	return s.Commit()
}
