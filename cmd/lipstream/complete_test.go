package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary act as lipstream for the shells that complete its
// command line.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "lipstream" {
		os.Exit(execute(context.Background(), os.Args[1:], &console{Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

func TestComplete(t *testing.T) {
	tests := []struct {
		name string
		line []string // the words before the one to complete, then that one
		want string   // the kind and the words
	}{
		{"command", []string{"se"}, "words serve"},
		{"command of a group", []string{"runtime", ""}, "words install list path"},
		{"flag of all commands", []string{"--deb"}, "words --debug"},
		{"flag", []string{"run", "--eng"}, "words --engine"},
		{"global flag after a command", []string{"run", "--vers"}, "words --version"},
		{"flag that others refuse", []string{"submit", "--resu"}, "words"},
		{"choice", []string{"run", "--engine", "p"}, "words preview"},
		{"choice after an equals sign", []string{"run", "--engine=p"}, "words --engine=preview"},
		{"equals sign as a word, in bash", []string{"run", "--engine", "=", "p"}, "words preview"},
		{"equals sign at the end, in bash", []string{"run", "--silence", "="}, "words speak hold pass"},
		{"equals sign earlier, in bash", []string{"run", "--engine", "=", "auto", "--backend", "onn"}, "words onnxruntime"},
		{"choice next to a placeholder", []string{"run", "--face", "c"}, "words center"},
		{"enum", []string{"serve", "--log-level", "d"}, "words debug"},
		{"number", []string{"run", "--seed", ""}, "words"},
		{"file", []string{"run", "--video", ""}, "files"},
		{"file after a short flag", []string{"run", "-o", ""}, "files"},
		{"mask", []string{"run", "--mask", ""}, "files"},
		{"mask to upload", []string{"submit", "--mask", ""}, "files"},
		{"face of a speaker", []string{"run", "--speaker", "le"}, "words left="},
		{"face of a speaker after an equals sign", []string{"run", "--speaker=le"}, "words --speaker=left="},
		{"voice of a speaker", []string{"run", "--speaker", "left=an"}, "files"},
		{"voice of a speaker, in bash", []string{"run", "--speaker", "left", "=", "an"}, "files"},
		{"voice of a speaker after two equals signs, in bash", []string{"run", "--speaker", "=", "left", "=", ""}, "files"},
		{"folder", []string{"comfyui", "install", "--path", ""}, "folders"},
		{"flag after one without value", []string{"run", "--quiet", "--overw"}, "words --overwrite"},
		{"argument", []string{"completion", "z"}, "words zsh"},
		{"unknown flag", []string{"run", "--nonsense=", ""}, "words"},
		{"value of an unknown flag", []string{"run", "--nonsense=x"}, "words"},
		{"value of a flag without value", []string{"run", "--quiet=x"}, "words"},
		{"after two hyphens", []string{"logs", "--", "--"}, "words"},
		{"hidden command", []string{"tas"}, "words"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			last := len(tt.line) - 1
			var out, errs bytes.Buffer
			if code := execute(t.Context(), append([]string{"complete", ":" + tt.line[last]}, tt.line[:last]...), &console{Out: &out, Err: &errs}); code != 0 || errs.Len() > 0 {
				t.Fatalf("exit code %d: %s", code, &errs)
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				got = append(got, word)
			}
			if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// completeIn are scripts that complete "lipstream run --silence h" in each shell, and
// print the result. $1 is the file with the completion script.
var completeIn = map[string]string{
	"bash": `source "$1"
COMP_WORDS=(lipstream run --silence = h) COMP_CWORD=4
_lipstream
echo "${COMPREPLY[@]}"`,
	// Without a terminal zsh completes nothing, so the functions of its completion
	// system are replaced by ones that print what they get.
	"zsh": `compdef() { :; }
_describe() { print -l ${(P)4}; }
source "$1"
words=(lipstream run --silence h) CURRENT=4
_lipstream | sed 's/:$//'`,
	"fish": `source $argv[1]; complete -C 'lipstream run --silence h'`,
}

// TestCompletionScripts loads the script in each installed shell and completes a word.
func TestCompletionScripts(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "lipstream")); err != nil {
		t.Skip(err)
	}
	for shell, script := range completeIn {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(shell + " is not installed")
			}
			var out, errs bytes.Buffer
			if code := execute(t.Context(), []string{"completion", shell}, &console{Out: &out, Err: &errs}); code != 0 {
				t.Fatalf("exit code %d: %s", code, &errs)
			}
			file := filepath.Join(dir, shell+".completion")
			if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"-c", script, "test", file}
			if shell == "fish" {
				args = []string{"--no-config", "-c", script, file}
			}
			cmd := exec.CommandContext(t.Context(), path, args...)
			cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
			got, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			if d := cmp.Diff("hold", strings.TrimSpace(string(got))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
