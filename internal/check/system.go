package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/shirou/gopsutil/v4/host"

	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/doctor"
)

// System describes this program and this machine.
func System(ctx context.Context) []Fact {
	facts := []Fact{{"lipstream", program()}, {"system", system(ctx)}}
	d := doctor.System("")
	for _, c := range doctor.Run(ctx, doctor.Deps{CPU: d.CPU, GPUs: d.GPUs, Host: d.Host, Cgroup: d.Cgroup}).Checks {
		facts = append(facts, Fact{c.Name, c.Detail})
	}
	switch driver, err := cuda.Read(); {
	case errors.Is(err, cuda.ErrNoDriver):
	case err != nil:
		facts = append(facts, Fact{"cuda", err.Error()})
	default:
		facts = append(facts, Fact{"cuda", fmt.Sprintf("the driver runs CUDA %d.%d", driver.CUDA/1000, driver.CUDA%1000/10)})
		for _, c := range driver.Devices {
			facts = append(facts, Fact{fmt.Sprintf("cuda:%d", c.Index), fmt.Sprintf("%s, compute capability %s, %s", c.Name, c.Capability, c.UUID)})
		}
	}
	return facts
}

// program returns the version of this program, and its commit if that is known.
func program() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return runtime.Version()
	}
	commit := "commit unknown"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = "commit " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			commit += ", modified" // follows vcs.revision
		}
	}
	return strings.Join([]string{info.Main.Version, commit, info.GoVersion}, ", ")
}

// system returns the operating system, as far as it is known.
func system(ctx context.Context) string {
	parts := []string{runtime.GOOS + "/" + runtime.GOARCH}
	if name, _, version, err := host.PlatformInformationWithContext(ctx); err == nil && name != "" {
		parts = append(parts, strings.TrimSpace(name+" "+version))
	}
	if kernel, err := host.KernelVersionWithContext(ctx); err == nil && kernel != "" {
		parts = append(parts, "kernel "+kernel)
	}
	return strings.Join(parts, ", ")
}
