package main

import (
	"embed"

	"github.com/lipstream/lipstream/internal/fault"
)

//go:embed completion
var completionScripts embed.FS

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" placeholder:"bash|zsh|fish|powershell" help:"Shell: bash, zsh, fish or powershell."`
}

// Run implements lipstream completion. It prints the script that makes the shell
// complete Lipstream's commands, flags and values. The script calls lipstream
// complete.
func (x *completionCmd) Run(c *console) error {
	script, err := completionScripts.ReadFile("completion/" + x.Shell)
	if err != nil {
		return fault.Internal.Wrap("read the completion script", err)
	}
	_, err = c.Out.Write(script)
	return fault.Output.Wrap("print the completion script", err)
}
