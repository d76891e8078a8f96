package models

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// PathVariable is the environment variable with more folders to search after the models
// folder, separated like those of PATH: folders of checkpoints, ComfyUI's folder, or a
// cache of Hugging Face. The ComfyUI nodes set it.
const PathVariable = "LIPSTREAM_MODELS_PATH"

// place is a folder that may hold checkpoints.
type place struct {
	name string // for people
	dir  string
	// shared is set if other programs have files there: names such as unet.pth are not
	// enough to identify a checkpoint.
	shared bool
	noUNet bool // only Whisper and the VAEs are searched
	// files has the paths in the folder by kind. If it is nil, those of kinds are searched.
	files map[Kind][]string
}

// unspecific are paths that, in a shared folder, may be those of other networks.
var unspecific = []string{
	"unet.pth", "unet.safetensors",
	"whisper/pytorch_model.bin", "whisper/model.safetensors",
	"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin",
}

// paths returns the paths to try for a kind: normal, unless the place restricts them.
func (p place) paths(kind Kind, normal []string) []string {
	switch {
	case p.files != nil:
		return p.files[kind]
	case p.noUNet && kind.isUNet():
		return nil
	case p.shared:
		return slices.DeleteFunc(slices.Clone(normal), func(s string) bool { return slices.Contains(unspecific, s) })
	}
	return normal
}

// places returns the folders to search, in their order. dir is a models folder, ComfyUI's
// folder, or a cache of Hugging Face. After the folder of Dir, those in
// LIPSTREAM_MODELS_PATH, the cache of Hugging Face, and that of ComfyUI-LatentSyncWrapper
// are searched as well.
func places(dir string) []place {
	list := []place{{name: "models folder", dir: dir}}
	for _, v := range versionFolders {
		list = append(list, place{name: "models folder", dir: filepath.Join(dir, v)})
	}
	if base := filepath.Base(dir); slices.Contains(versionFolders, base) || slices.Contains(museTalkFolders, base) {
		list = append(list, place{name: "models folder", dir: filepath.Dir(dir), noUNet: true})
	}
	list = append(list, append(comfyUI(dir), hub(dir)...)...)
	if own, err := Dir(); err != nil || dir != own {
		return list
	}
	for _, d := range filepath.SplitList(os.Getenv(PathVariable)) {
		if !filepath.IsAbs(d) {
			continue
		}
		found := append(comfyUI(d), hub(d)...)
		if len(found) == 0 {
			found = sharedFolder(PathVariable, d)
		}
		list = append(list, found...)
	}
	if home, err := os.UserHomeDir(); err == nil {
		cache := cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(home, ".cache"))
		list = append(list, hub(cmp.Or(os.Getenv("HF_HUB_CACHE"), filepath.Join(cmp.Or(os.Getenv("HF_HOME"), filepath.Join(cache, "huggingface")), "hub")))...)
		list = append(list, place{name: "ComfyUI-LatentSyncWrapper", dir: filepath.Join(home, ".latentsync16_models")})
	}
	return list
}

// sharedFolder returns a folder that other programs use, with the folders in it that are named
// after LatentSync or MuseTalk. These may be the folders of ComfyUI's nodes.
func sharedFolder(name, dir string) []place {
	list := []place{{name: name, dir: dir, shared: true}}
	for _, owner := range []string{".", "ByteDance", "TMElyralab"} {
		entries, _ := os.ReadDir(filepath.Join(dir, owner)) // most folders have none
		for _, e := range entries {
			if n := strings.ToLower(e.Name()); !strings.Contains(n, "latentsync") && !strings.Contains(n, "musetalk") {
				continue
			}
			for _, in := range []string{".", "checkpoints", "models", "musetalk/whisper/checkpoints"} {
				list = append(list, place{name: e.Name(), dir: filepath.Join(dir, owner, e.Name(), filepath.FromSlash(in))})
			}
		}
	}
	return list
}

// comfyUI returns the folders of a ComfyUI in dir or in its folder ComfyUI, as in the
// portable version for Windows. It returns none if there is no ComfyUI.
func comfyUI(dir string) (list []place) {
	for _, root := range []string{dir, filepath.Join(dir, "ComfyUI")} {
		nodes := filepath.Join(root, "custom_nodes")
		if st, err := os.Stat(nodes); err != nil || !st.IsDir() {
			continue
		}
		models := filepath.Join(root, "models")
		for _, d := range append([]string{
			nodes, filepath.Join(nodes, ".disabled"), // ComfyUI-Manager puts disabled nodes there
			models, filepath.Join(models, "checkpoints"), filepath.Join(models, "diffusers"), filepath.Join(models, "vae"),
		}, extraFolders(root)...) {
			list = append(list, sharedFolder("ComfyUI", d)...)
		}
		return list
	}
	return nil
}

// extraFolders returns the folders in the file extra_model_paths.yaml of ComfyUI, as
// ComfyUI reads them. It ignores a file that it cannot read.
func extraFolders(root string) (dirs []string) {
	text, err := os.ReadFile(filepath.Join(root, "extra_model_paths.yaml"))
	if err != nil {
		return nil
	}
	var groups map[string]map[string]any
	if yaml.Unmarshal(text, &groups) != nil {
		return nil
	}
	for _, group := range groups {
		base := ""
		if s, ok := group["base_path"].(string); ok {
			if rest, home := strings.CutPrefix(s, "~"); home {
				user, _ := os.UserHomeDir()
				s = user + rest
			}
			if base = os.ExpandEnv(s); !filepath.IsAbs(base) {
				base = filepath.Join(root, base)
			}
			dirs = append(dirs, base)
		}
		for key, value := range group {
			lines, ok := value.(string)
			if !ok || key == "base_path" {
				continue
			}
			for line := range strings.Lines(lines) {
				d := strings.TrimSpace(line)
				if d == "" {
					continue
				}
				if !filepath.IsAbs(d) {
					d = filepath.Join(cmp.Or(base, root), d)
				}
				dirs = append(dirs, d)
			}
		}
	}
	slices.Sort(dirs) // the order of a map changes
	return slices.Compact(dirs)
}

// hubFiles are files of Hugging Face's repositories that are not among those that Pull
// downloads.
var hubFiles = []known{
	{kind: Whisper, repo: "openai/whisper-tiny", path: "model.safetensors"},
	{kind: Whisper, repo: "ByteDance/LatentSync-1.5", path: "whisper/tiny.pt"},
	{kind: MuseTalkUNet, repo: "TMElyralab/MuseTalk", path: "musetalk/pytorch_model.bin"},
}

// hub returns the place of a cache of Hugging Face with any of the published files, or
// none. A repository in the cache is a folder models--OWNER--NAME, whose files are in
// snapshots/REVISION; refs/main names the newest revision.
func hub(dir string) []place {
	files := map[Kind][]string{}
	for _, k := range slices.Concat(published, hubFiles) {
		folder := "models--" + strings.ReplaceAll(k.repo, "/", "--")
		entries, err := os.ReadDir(filepath.Join(dir, folder, "snapshots"))
		if k.kind == "" || err != nil {
			continue
		}
		newest, _ := os.ReadFile(filepath.Join(dir, folder, "refs", "main")) // may be missing
		revisions := []string{strings.TrimSpace(string(newest))}
		for _, e := range entries {
			revisions = append(revisions, e.Name())
		}
		for _, r := range revisions {
			if r != "" {
				files[k.kind] = append(files[k.kind], folder+"/snapshots/"+r+"/"+k.path)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	return []place{{name: "Hugging Face", dir: dir, files: files}}
}
