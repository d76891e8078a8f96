package main

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/ffmpeg"
)

type manCmd struct{}

// Run implements lipstream man. It prints the manual page lipstream(1), made from
// the same definitions as --help.
func (*manCmd) Run(k *kong.Kong, c *console) error {
	_, err := c.Out.Write([]byte(manPage(k.Model.Node)))
	return fault.Output.Wrap("print the manual page", err)
}

// manPage returns the manual page in the language man(7).
func manPage(root *kong.Node) string {
	var m man
	m.line(`.TH LIPSTREAM 1 "%s" "lipstream %s"`, buildDate(), lipstream.Version())
	m.line(".ad l") // long flags leave gaps in justified lines
	m.line(".SH NAME\nlipstream \\- lip-sync a video or picture to a voice")
	m.line(".SH SYNOPSIS\n.B lipstream\n.I command\n.RI [ flags ]")
	m.line(".SH DESCRIPTION")
	m.text(description)
	m.line(".SH GLOBAL FLAGS")
	m.flags(root.Flags)
	m.line(".SH COMMANDS")
	for _, leaf := range root.Leaves(true) {
		m.command(leaf)
	}
	m.line(".SH EXIT STATUS")
	for _, code := range strings.Split(fault.ExitCodes(), ", ") {
		number, meaning, _ := strings.Cut(code, " ")
		m.line(".TP\n.B %s", escapeMan(number))
		m.text(meaning)
	}
	m.line(".SH ENVIRONMENT")
	for _, v := range variables(root) {
		m.line(".TP\n.B %s", escapeMan(v[0]))
		m.text(v[1])
	}
	m.line(".SH SEE ALSO\n.BR ffmpeg (1)")
	return m.String()
}

// variables returns the environment variables with their meaning: those of flags, and
// those that are not flags.
func variables(root *kong.Node) [][2]string {
	list := [][2]string{
		{ffmpeg.EnvFFmpeg, "The program ffmpeg. Without it, ffmpeg is searched for."},
		{ffmpeg.EnvFFprobe, "The program ffprobe. Without it, ffprobe is searched for."},
		{ffmpeg.MirrorVariable, "URL of a folder from which runtime install ffmpeg downloads. Default: Maven Central."},
		{wheels.PythonVariable, "The Python whose packages are searched for runtimes. Default: the one in PATH."},
		{wheels.IndexVariable, "URL of the package index from which runtime install downloads. Default: https://pypi.org/simple."},
		{"LIPSTREAM_JOBS_DIR", "Folder of interrupted jobs. Default: lipstream/jobs in the user's cache folder."},
		{"LIPSTREAM_MODELS_DIR", "Folder of the checkpoints. Default: lipstream/models in the user's cache folder."},
		{"LIPSTREAM_MODELS_PATH", "More folders to search for checkpoints, separated like those of PATH: checkpoints, ComfyUI, or a cache of Hugging Face."},
		{"LIPSTREAM_RUNTIME_DIR", "Folder of the runtimes. No other folders are searched."},
		{"XDG_CACHE_HOME", "The user's cache folder. Default: .cache in HOME; on other systems than Linux it has no effect."},
	}
	for _, leaf := range root.Leaves(true) {
		for _, f := range leaf.Flags {
			for _, name := range f.Envs {
				if !f.Hidden && !slices.ContainsFunc(list, func(v [2]string) bool { return v[0] == name }) {
					list = append(list, [2]string{name, "Value of --" + f.Name + ": " + f.Help})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

// man is a page being written.
type man struct{ strings.Builder }

func (m *man) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// text writes a paragraph.
func (m *man) text(s string) { m.line("%s", escapeMan(s)) }

// command writes one command with its arguments and flags.
func (m *man) command(node *kong.Node) {
	m.line(".SS %s", escapeMan("lipstream "+strings.TrimPrefix(node.Path(), "lipstream ")))
	m.text(node.Help)
	for _, p := range node.Positional {
		m.line(".TP\n.I %s", escapeMan(p.Summary()))
		m.text(p.Help)
	}
	m.flags(node.Flags)
}

// flags writes the flags, those of a group below its title.
func (m *man) flags(flags []*kong.Flag) {
	group := ""
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		if f.Group != nil && f.Group.Title != group {
			group = f.Group.Title
			m.line(".PP\n.I %s", escapeMan(group+":"))
		}
		m.line(".TP\n.B %s", escapeMan(f.String()))
		m.text(f.Help)
	}
}

// escapeMan escapes what roff would interpret: backslashes, hyphens that belong to
// what users type, and points and quotes that begin a line.
func escapeMan(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(oneLine(s, len(s)))
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// buildDate returns the date of the commit that the program was built from, or "".
func buildDate() string {
	t, err := time.Parse(time.RFC3339, buildSetting("vcs.time"))
	if err != nil {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// buildSetting returns a setting of the build of this program, or "".
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key })
	if i < 0 {
		return ""
	}
	return info.Settings[i].Value
}

// versionLine returns what --version prints: the version, and the commit and the
// date that the program was built from if they are known.
func versionLine() string {
	revision := buildSetting("vcs.revision")
	if len(revision) < 12 {
		return lipstream.Version()
	}
	return fmt.Sprintf("%s (commit %s of %s)", lipstream.Version(), revision[:12], buildDate())
}
