package ffmpeg

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

// MirrorVariable is the environment variable with the URL of a folder to download the
// package from, instead of the public registry.
const MirrorVariable = "LIPSTREAM_FFMPEG_MIRROR"

// license is the licence of every build.
const license = "GNU General Public License, version 3"

//go:embed GPL-3.0.txt
var licenseText string

// The package is that of the JavaCPP project in Maven Central, with x264 and x265 (gpl).
// Its programs load their libraries from their own folder. On Windows and macOS they need
// nothing else; on Linux they also need libraries of a desktop, such as libpulse.
// The other packages with both programs were worse: they lack zlib and so PNG, end with a
// segmentation fault on MPEG-TS, or come from unknown publishers.
const (
	version = "8.1.2"
	release = version + "-1.5.14"
	folder  = "https://repo1.maven.org/maven2/org/bytedeco/ffmpeg/" + release + "/"
	source  = "https://github.com/bytedeco/javacpp-presets/tree/1.5.14/ffmpeg and https://ffmpeg.org/releases"
)

// jar is one file of the package.
type jar struct {
	platform string // the name of the platform in the package
	sha256   string
	size     int64
}

// jars are the files by GOOS/GOARCH.
var jars = map[string]jar{
	"linux/amd64":   {"linux-x86_64", "3c56835c2675ed4fae638268588896a00e1dd109ccdea5aacc3056d6330a669e", 31151721},
	"linux/arm64":   {"linux-arm64", "70432d826648ca06b1c792dda2cafb22b2f958169b7d365e3d46957d9f41d7cc", 29992227},
	"windows/amd64": windows,
	"windows/arm64": windows, // Windows 11 emulates amd64
	"darwin/amd64":  {"macosx-x86_64", "917327cd6178e7ecddd4fb9dd5981cb4c5f04631a06dc0bd81cfe0377b1f3705", 27776046},
	"darwin/arm64":  {"macosx-arm64", "03abefca5abf608f040da235a83f22ad32518ed4780c8dac724f940015d653bd", 23123686},
}

var windows = jar{"windows-x86_64", "9c4bbdecba752fb2d0a8e537e69d330c6db6b02087f5035f88decad0050e5550", 34915619}

func (j jar) file() string { return "ffmpeg-" + release + "-" + j.platform + "-gpl.jar" }

// Version returns the version that Install installs on this machine, or "".
func Version() string {
	if _, ok := jars[archive.Platform]; !ok {
		return ""
	}
	return version
}

// build returns the package for this machine.
func build() (jar, archive.Archive, error) {
	j, ok := jars[archive.Platform]
	if !ok {
		return j, archive.Archive{}, fault.Missing.New("install ffmpeg", archive.NoBuild(archive.Platform), systemHint())
	}
	inside := "org/bytedeco/ffmpeg/" + j.platform + "-gpl/"
	return j, archive.Archive{
		Project: "ffmpeg", Version: version, SHA256: j.sha256, Size: j.size, Mode: 0o755,
		Keep: []string{inside + "ff*", inside + "lib[^j]*", inside + "[as]*.dll"}, // not libjni*, which only Java needs
		Hint: "download " + folder + j.file(),
	}, nil
}

// Install makes sure that ffmpeg and ffprobe are installed and complete, and returns their
// folder. from is the path of the package's file, or of a folder with it; if it is "", the
// package is downloaded.
func Install(ctx context.Context, from string, progress archive.Progress) (dir string, err error) {
	progress.Defaults()
	j, a, err := build()
	if err != nil {
		return "", err
	}
	if dir, err = a.Dir(); err != nil {
		return "", err
	}
	if from != "" {
		if from, err = j.given(ctx, a, from); err != nil {
			return "", err
		}
	} else if a.Installed(ctx) {
		progress.Say("ffmpeg " + version + " is already installed")
		return dir, nil
	}
	err = a.Install(ctx, progress, func(dir string) (string, error) {
		if from != "" {
			return from, nil
		}
		return j.download(ctx, a, dir, progress)
	}, func(dir string) error { return j.finish(ctx, dir) })
	if err != nil {
		return "", err
	}
	progress.Say("installed in " + dir)
	progress.Say("ffmpeg and ffprobe are separate programs under the " + license + ": see " + filepath.Join(dir, "licenses"))
	return dir, nil
}

// given returns the path of the package in from, a file or a folder.
func (j jar) given(ctx context.Context, a archive.Archive, from string) (string, error) {
	given, err := archive.Given(ctx, from, ".jar")
	if err != nil {
		return "", err
	}
	if path := given[j.sha256]; path != "" {
		return path, nil
	}
	if sums := slices.Collect(maps.Keys(given)); len(sums) == 1 {
		return "", a.WrongSum(given[sums[0]], sums[0])
	}
	return "", fault.Input.New("install from "+from, "it does not have "+j.file(), j.byHand())
}

// byHand says how to install without a connection.
func (j jar) byHand() string {
	return "download " + folder + j.file() + " on any machine, then run: lipstream runtime install ffmpeg --from FILE"
}

// download downloads the package into dir, and returns its path.
func (j jar) download(ctx context.Context, a archive.Archive, dir string, progress archive.Progress) (string, error) {
	from := cmp.Or(os.Getenv(MirrorVariable), folder)
	at, err := url.Parse(strings.TrimRight(from, "/") + "/" + j.file())
	if err == nil && at.Scheme != "https" && at.Scheme != "http" {
		err = errors.New("it is not an address of http or https")
	}
	if err != nil {
		return "", fault.Usage.Wrap("download from "+from, err, "set "+MirrorVariable+" to the URL of a folder, or unset it")
	}
	progress.Say(fmt.Sprintf("downloading ffmpeg %s, %d MB", version, archive.Megabytes(j.size)))
	path, err := a.Fetch(ctx, at, j.file(), dir, progress)
	if fault.KindOf(err) == fault.Missing {
		return "", fault.Missing.Wrap("install ffmpeg", err, "check the connection, or "+j.byHand())
	}
	return path, err
}

// finish runs the programs in dir, and adds the licence.
func (j jar) finish(ctx context.Context, dir string) error {
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		path := program(dir, name)
		if path == "" {
			return fault.Internal.New("unpack "+j.file(), "it does not contain "+name)
		}
		if _, err := child.Output(ctx, exec.Command(path, "-version"), 0, 1<<20); err != nil {
			if ctx.Err() != nil {
				return fault.Cancelled.Wrap("install ffmpeg", err)
			}
			return fault.Missing.Wrap("run the unpacked "+name, err, systemHint()) // of another processor, or with older libraries
		}
	}
	licenses := filepath.Join(dir, "licenses")
	err := os.MkdirAll(licenses, 0o755)
	for name, text := range map[string]string{
		"GPL-3.0.txt": licenseText,
		"README.txt": "These builds of ffmpeg " + version + " and ffprobe come from\n" + folder + j.file() + "\n" +
			"They are free software under the " + license + ": see GPL-3.0.txt.\n" +
			"Their source code: " + source + "\n" +
			"Lipstream runs them as separate programs.\n",
	} {
		if err == nil {
			err = os.WriteFile(filepath.Join(licenses, name), []byte(text), 0o644)
		}
	}
	return fault.Output.Wrap("write "+licenses, err)
}
