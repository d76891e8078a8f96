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
	list := s.beside(partsSuffix)
	var lines strings.Builder
	for _, p := range parts {
		info, err := Probe(ctx, tools, p)
		if err == nil {
			err = info.NeedVideo()
		}
		if err != nil {
			return err
		}
		entry, err := concatEntry(p)
		if err != nil {
			return err
		}
		lines.WriteString(entry)
		s.codec = info.Video.Codec
		s.n += info.Video.Frames
		if v := info.Video; v.Frames > 0 && v.FrameRate.Float() > 0 {
			// The duration in the file is rounded; over many parts that would add up.
			fmt.Fprintf(&lines, "duration %s\n", seconds(float64(v.Frames)/v.FrameRate.Float()))
		}
	}
	if err := writeList(list, lines.String()); err != nil {
		return err
	}
	defer func() { _ = os.Remove(list) }()
	defer s.removeLists()
	args, err := s.muxArgs(concatInput(list), []string{"-c:v:0", "copy"}, s.temp)
	if err != nil {
		return err
	}
	if err := s.start(args, nil); err != nil {
		return err
	}
	return s.Commit()
}

// concatEntry returns the line of a list for ffmpeg's demuxer concat that names a file.
func concatEntry(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Input.Wrap("read "+path, err)
	}
	if strings.ContainsAny(abs, "\r\n") {
		return "", fault.Input.New("read "+path, "its name has a line break", "rename it")
	}
	return fmt.Sprintf("file 'file:%s'\n", strings.ReplaceAll(abs, "'", `'\''`)), nil
}

// concatInput returns the arguments that open a list.
func concatInput(list string) []string {
	return []string{"-protocol_whitelist", "file,pipe", "-f", "concat", "-safe", "0", "-i", fileURL(list)}
}
