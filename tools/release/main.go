// Command release builds what a release consists of: an archive for each platform,
// an SBOM for each, the nodes for ComfyUI, the install scripts, and the checksums of all.
//
//	go run ./tools/release -sbom github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
//
// The bytes depend on the commit and the version of Go only. With -check, it builds
// everything a second time in another folder, and installs the commit with go install.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/lipstream/lipstream/comfyui"
)

const (
	module = "github.com/lipstream/lipstream"
	sums   = "SHA256SUMS"

	nodesName = "lipstream-comfyui.zip"
)

// release is one build of all files.
type release struct {
	source    string   // the repository; its newest commit is built, in a clone
	out       string   // folder for the files
	platforms []string // such as linux/amd64
	sbom      string   // the module with the tool that writes SBOMs, and its version
	env       []string // added to the environment of the tools

	root    string    // folder in which the tools run
	version string    // of the program
	time    time.Time // of the commit, which all files in archives get
	nodes   comfyui.Binaries
}

func main() {
	var r release
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,windows/amd64,windows/arm64,darwin/amd64,darwin/arm64", "platforms, separated by commas")
	flag.StringVar(&r.out, "out", "dist", "`folder` for the files; it is replaced")
	flag.StringVar(&r.sbom, "sbom", "", "cyclonedx-gomod's `module@version`; empty leaves the SBOMs out")
	check := flag.Bool("check", false, "build again in another folder and compare; check go install")
	flag.Parse()
	r.platforms = strings.Split(*platforms, ",")
	if err := run(context.Background(), r, *check); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, r release, check bool) error {
	var err error
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if r.source, err = os.Getwd(); err != nil {
		return err
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	if check {
		return r.check(ctx)
	}
	return nil
}

// build makes all files.
func (r *release) build(ctx context.Context) error {
	temp, err := os.MkdirTemp("", "lipstream-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	r.root = r.source
	changed, err := r.tool(ctx, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return errors.New("commit these changes first:\n" + changed)
	}
	// Neither go nor the SBOM's tool finds the version in a linked work tree.
	clone := filepath.Join(temp, "source")
	if _, err := r.tool(ctx, "git", "clone", "--quiet", r.source, clone); err != nil {
		return err
	}
	r.root = clone
	stamp, err := r.tool(ctx, "git", "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	if r.time, err = time.Parse(time.RFC3339, stamp); err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	docs, err := r.documents(ctx, temp)
	if err != nil {
		return err
	}
	for _, p := range r.platforms {
		if err := r.platform(ctx, p, temp, docs); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if err := r.writeNodes(); err != nil {
		return err
	}
	for _, name := range []string{"install.sh", "install.ps1"} {
		b, err := os.ReadFile(filepath.Join(r.root, "deploy", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, name), b, 0o755); err != nil {
			return err
		}
	}
	return r.writeSums()
}

// documents returns the files of every archive, without the program.
func (r *release) documents(ctx context.Context, temp string) ([]file, error) {
	program := filepath.Join(temp, "host")
	if err := r.compile(ctx, runtime.GOOS, runtime.GOARCH, program); err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	r.version = info.Main.Version
	r.nodes = comfyui.Binaries{URL: "https://" + module + "/releases/download/" + r.version + "/", Platforms: map[string]comfyui.Binary{}}
	fmt.Println("version", r.version, "of", r.time.UTC().Format(time.DateOnly), "with", info.GoVersion)
	var files []file
	for _, name := range []string{"LICENSE", "NOTICE", "README.md"} {
		b, err := os.ReadFile(filepath.Join(r.root, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, 0o644, b})
	}
	for name, args := range map[string][]string{
		"completions/lipstream.bash": {"completion", "bash"},
		"completions/_lipstream":     {"completion", "zsh"},
		"completions/lipstream.fish": {"completion", "fish"},
		"completions/lipstream.ps1":  {"completion", "powershell"},
		"man/lipstream.1":            {"man"},
	} {
		text, err := r.tool(ctx, program, args...)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, 0o644, []byte(text + "\n")})
	}
	return files, nil
}

// platform makes the archive and the SBOM of one platform.
func (r *release) platform(ctx context.Context, platform, temp string, docs []file) error {
	system, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return errors.New("write platforms like linux/amd64")
	}
	name := "lipstream-" + system + "-" + arch
	program, pack, extension := "lipstream", tarGz, ".tar.gz"
	if system == "windows" {
		program, pack, extension = "lipstream.exe", zipped, ".zip"
	}
	built := filepath.Join(temp, name)
	if err := r.compile(ctx, system, arch, built); err != nil {
		return err
	}
	b, err := os.ReadFile(built)
	if err != nil {
		return err
	}
	archive, err := pack(name, append([]file{{program, 0o755, b}}, docs...), r.time)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, name+extension), archive, 0o644); err != nil {
		return err
	}
	fmt.Printf("%s%s %.1f MB\n", name, extension, float64(len(archive))/1e6)
	r.nodes.Platforms[platform] = comfyui.Binary{
		Name: name + extension, Size: int64(len(archive)), SHA256: fmt.Sprintf("%x", sha256.Sum256(archive)), Program: name + "/" + program,
	}
	if r.sbom == "" {
		return nil
	}
	// The tool itself runs on this machine, so it is built before GOOS is set.
	tool := filepath.Join(temp, "bin", "cyclonedx-gomod")
	if _, err := os.Stat(tool); err != nil {
		if _, err := r.with("GOBIN="+filepath.Dir(tool)).tool(ctx, "go", "install", r.sbom); err != nil {
			return err
		}
	}
	_, err = r.with("GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0").tool(ctx, tool, "app", "-json", "-licenses", "-std", "-noserial", "-notimestamp",
		"-main", "cmd/lipstream", "-output", filepath.Join(r.out, name+".cdx.json"), r.root)
	return err
}

// writeNodes writes the package of ComfyUI's nodes, which downloads the archives of this
// release.
func (r *release) writeNodes() error {
	all, err := comfyui.Files()
	if err != nil {
		return err
	}
	list, err := json.MarshalIndent(r.nodes, "", "  ")
	if err != nil {
		return err
	}
	all[comfyui.BinariesFile] = append(list, '\n')
	var files []file
	for name, content := range all {
		files = append(files, file{name, 0o644, content})
	}
	archive, err := zipped(comfyui.Folder, files, r.time)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, nodesName), archive, 0o644)
}

// compile builds the program. The version and the commit come from git.
func (r *release) compile(ctx context.Context, system, arch, to string) error {
	_, err := r.with("CGO_ENABLED=0", "GOFLAGS=", "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0").tool(ctx,
		"go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", to, "./cmd/lipstream")
	return err
}

// writeSums writes the checksums of all files, in the format of sha256sum.
func (r *release) writeSums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, sums), []byte(b.String()), 0o644)
}

// with returns the release with additions to the environment of its tools.
func (r *release) with(env ...string) *release {
	changed := *r
	changed.env = append(append([]string{}, r.env...), env...)
	return &changed
}

// tool runs a program in the root of the source and returns its output.
func (r *release) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = r.root, append(os.Environ(), r.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, &said)
	}
	return strings.TrimSpace(out.String()), nil
}
