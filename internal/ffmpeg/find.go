// Package ffmpeg finds the programs ffmpeg and ffprobe, and installs them for users who
// have none. Lipstream runs them and does not link them.
package ffmpeg

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// The environment variables that name the programs to use.
const (
	EnvFFmpeg  = "LIPSTREAM_FFMPEG"
	EnvFFprobe = "LIPSTREAM_FFPROBE"
)

// Program is a program that was found.
type Program struct {
	Path   string // absolute
	Source string // where it was found, such as "PATH"
}

// Find finds a program, "ffmpeg" or "ffprobe". It uses the one that the environment
// variable names, if it is set. Otherwise it searches the folder of the running program,
// the installation of Install, and the folders in PATH, in this order. On macOS, those of
// Homebrew and MacPorts follow. It never searches the current folder, which Windows puts
// before PATH: a video's folder is not to be trusted with programs.
func Find(name string) (Program, error) {
	variable := map[string]string{"ffmpeg": EnvFFmpeg, "ffprobe": EnvFFprobe}[name]
	if given := os.Getenv(variable); given != "" {
		if path := lookPath(given); path != "" {
			return Program{path, variable}, nil
		}
		return Program{}, fault.Missing.New("find "+name+" "+given, "there is no such program",
			"set "+variable+" to the program, or unset it to search for it")
	}
	if self, err := os.Executable(); err == nil {
		if path := program(filepath.Dir(self), name); path != "" {
			return Program{path, "beside Lipstream"}, nil
		}
	}
	if _, a, err := build(); err == nil {
		if dir, err := a.Dir(); err == nil {
			if path := program(dir, name); path != "" {
				return Program{path, "installed by Lipstream"}, nil
			}
		}
	}
	if path := lookPath(name); path != "" {
		return Program{path, "PATH"}, nil
	}
	return Program{}, fault.Missing.New("find "+name, name+" is not installed (not found on PATH)", InstallHint())
}

// program returns the path of a program in a folder, or "".
func program(dir, name string) string {
	path, err := exec.LookPath(filepath.Join(dir, name)) // on Windows it adds .exe
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// lookPath returns the absolute path of a program, given by its path or by a name to
// search in PATH, or "". Unlike exec.LookPath, it skips relative folders in PATH and the
// current folder, instead of failing if one of them has the program.
func lookPath(name string) string {
	if filepath.Base(name) != name {
		path, err := filepath.Abs(name) // a relative path would break if the process changed its folder
		if err != nil {
			return ""
		}
		return program(filepath.Split(path))
	}
	for _, dir := range folders(runtime.GOOS, filepath.SplitList(os.Getenv("PATH"))) {
		if path := program(dir, name); path != "" {
			return path
		}
	}
	return ""
}

// folders returns the folders in PATH, on macOS with those of Homebrew and MacPorts:
// the PATH of programs started from the Dock or the Finder does not have them.
func folders(system string, path []string) []string {
	if system == "darwin" {
		path = append(path, "/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin")
	}
	return path
}

// InstallHint returns how to install ffmpeg on this machine, the best way first.
func InstallHint() string {
	const own = "lipstream runtime install ffmpeg"
	switch {
	case Version() == "":
		return systemHint()
	case runtime.GOOS == "linux":
		return systemHint() + ", or " + own
	}
	return strings.Replace(systemHint(), "install it: ", "install it: "+own+", or ", 1)
}

// systemHint returns how to install ffmpeg with the package manager of the system.
func systemHint() string {
	line := "sudo apt-get install ffmpeg"
	switch runtime.GOOS {
	case "darwin":
		line = "brew install ffmpeg"
	case "windows":
		line = "winget install Gyan.FFmpeg"
	default:
		for _, m := range [][2]string{
			{"apt-get", line}, {"dnf", "sudo dnf install ffmpeg"}, {"pacman", "sudo pacman -S ffmpeg"},
			{"apk", "sudo apk add ffmpeg"}, {"zypper", "sudo zypper install ffmpeg"}, {"brew", "brew install ffmpeg"},
		} {
			if lookPath(m[0]) != "" {
				line = m[1]
				break
			}
		}
	}
	return "install it: " + line
}
