package media

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

// Join concatenates videos of the same kind without encoding them again, and adds
// the sound that o names. The output appears under its name only when it is
// complete.
func Join(ctx context.Context, tools Tools, parts []string, path string, o SinkOptions) (err error) {
	cont, err := containerOf(path)
	if err != nil {
		return err
	}
	if err := CheckOutput(path, o.Overwrite, o.Inputs...); err != nil {
		return err
	}
	if path, err = followLinks(path); err != nil {
		return err
	}
	s := &Sink{ctx: ctx, tools: tools, path: path, o: o, cont: cont, temp: tempName(path)}
	list := s.temp + ".txt"
	var lines strings.Builder
	for _, p := range parts {
		info, err := Probe(ctx, tools, p)
		if err != nil {
			return err
		}
		if err := info.NeedVideo(); err != nil {
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
		return fault.Output.Wrap(writeOp+" "+path, unpath(err))
	}
	defer func() { _ = os.Remove(list) }()
	args := append(quiet(), "-protocol_whitelist", "file,pipe", "-f", "concat", "-safe", "0", "-i", fileURL(list))
	sound, err := s.audioArgs(&args)
	if err != nil {
		return err
	}
	args = append(args, "-map", "0:v:0")
	args = append(args, sound...)
	args = append(args, "-c:v", "copy")
	if s.ffmpeg, err = child.Start(ctx, command(tools.FFmpeg, append(args, s.muxArgs(s.temp)...)...), 0); err != nil {
		return fault.Missing.Wrap("run ffmpeg", err)
	}
	s.stop = context.AfterFunc(ctx, func() { _ = s.Close() })
	return s.Commit()
}
