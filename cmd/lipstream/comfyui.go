package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/comfyui"
	"github.com/lipstream/lipstream/internal/fault"
)

type comfyuiCmd struct {
	Install comfyuiInstallCmd `cmd:"" help:"Put Lipstream's nodes into a ComfyUI."`
}

type comfyuiInstallCmd struct {
	Path string `required:"" placeholder:"COMFYUI" help:"The folder with ComfyUI's main.py."`
}

func (c *comfyuiInstallCmd) Run(out *console) error {
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return fault.Internal.Wrap("find this program", err)
	}
	done, err := comfyui.Install(c.Path, program)
	if err != nil {
		return err
	}
	what := "installed"
	if done.Replaced {
		what = "replaced"
	}
	_, _ = fmt.Fprintf(out.Out, "%s %s; restart ComfyUI\nThe nodes start %s by themselves.\n", what, done.Folder, program)
	for _, name := range done.Rivals {
		_, _ = fmt.Fprintf(out.Err, "warning: %s has a LatentSyncNode, too: disable it by the name %s.disabled\n", name, name)
	}
	return nil
}
