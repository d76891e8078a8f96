package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/comfyui"
	"github.com/lipstream/lipstream/internal/fault"
)

type comfyuiCmd struct {
	Install comfyuiInstallCmd `cmd:"" help:"Install Lipstream's nodes in ComfyUI."`
}

type comfyuiInstallCmd struct {
	Path string `required:"" placeholder:"COMFYUI" help:"ComfyUI's folder, which contains main.py."`
}

// Run implements lipstream comfyui install.
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
	_, _ = fmt.Fprintf(out.Out, "%s %s; restart ComfyUI to load the nodes\nThe nodes start %s when they need it.\n", what, done.Folder, program)
	for _, name := range done.Rivals {
		_, _ = fmt.Fprintf(out.Err, "warning: %s also has a LatentSyncNode; to disable it, rename it to %s.disabled\n", name, name)
	}
	return nil
}
