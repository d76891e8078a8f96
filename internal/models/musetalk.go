package models

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/network"
)

// museTalkConfigName is the name of the file beside MuseTalk's UNet that describes it.
const museTalkConfigName = "musetalk.json"

// museTalkConfig is a part of musetalk.json. It is only shown, because that of version 1.5
// was once published with wrong channels (docs/spec/musetalk.md, section 2.3). The original
// ignores keys that begin with "_".
type museTalkConfig struct {
	Class    string `json:"_class_name"`
	Version  string `json:"_lipstream_version,omitempty"` // Synthetic, or what a user has written
	Channels []int  `json:"block_out_channels"`
	Layers   int    `json:"layers_per_block"`
	In       int    `json:"in_channels"`
	Out      int    `json:"out_channels"`
	AudioDim int    `json:"cross_attention_dim"`
	Heads    int    `json:"attention_head_dim"`
}

// readMuseTalkConfig reads the file beside a UNet. It returns the zero value if there is
// none.
func readMuseTalkConfig(unet string) (c museTalkConfig) {
	_ = readJSON(filepath.Join(filepath.Dir(unet), museTalkConfigName), &c)
	return c
}

// String describes the topology as that of the tensors is described. It returns "" for the
// zero value.
func (c museTalkConfig) String() string {
	if len(c.Channels) == 0 {
		return ""
	}
	return unetTopology(network.UNetConfig{Channels: c.Channels, Layers: c.Layers, In: c.In, Out: c.Out, AudioDim: c.AudioDim})
}

// museTalkVersion returns the version of the UNet at a path: the one that musetalk.json
// beside it states, else that of its SHA-256 if it is known without reading the file, else
// that of its folder. The name is "" if none is known.
func museTalkVersion(path string, st fs.FileInfo) Version {
	v := Version{Engine: MuseTalk, Resolution: 256}
	if v.Name = readMuseTalkConfig(path).Version; v.Name != "" {
		v.How = museTalkConfigName + " beside it"
		return v
	}
	if sum, ok := recall(path, st); ok {
		if known := versionOfSum(MuseTalkUNet, sum); known.Name != "" {
			return known
		}
	}
	abs, _ := filepath.Abs(path) // fails only without a current folder
	folder := filepath.Base(filepath.Dir(abs))
	if v.Name = map[string]string{"musetalkV15": "1.5", "musetalk": "1.0"}[folder]; v.Name != "" {
		v.How = fmt.Sprintf("the name of its folder, %s", folder)
	}
	return v
}
