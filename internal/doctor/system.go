package doctor

import (
	"os"
	"runtime"

	"github.com/shirou/gopsutil/v4/cpu"
	xcpu "golang.org/x/sys/cpu"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/memory"
)

// System returns Deps for this machine: the processor, GPUs, memory, disks and the
// checkpoints in modelsDir. The caller adds the programs and backends.
func System(modelsDir string) Deps {
	var p memory.Probe
	d := Deps{
		CPU: readCPU, GPUs: p.GPUs, Host: p.Host, Cgroup: p.Cgroup,
		ModelsDir: modelsDir,
		FreeSpace: disk.Free,
		Dirs:      []Dir{{"temp", os.TempDir()}},
	}
	if cache, err := os.UserCacheDir(); err == nil {
		d.Dirs = append(d.Dirs, Dir{"cache", cache})
	}
	if wd, err := os.Getwd(); err == nil {
		d.Dirs = append(d.Dirs, Dir{"work", wd})
	}
	return d
}

// readCPU describes this machine's processor.
func readCPU() CPU {
	c := CPU{Usable: runtime.GOMAXPROCS(0)}
	c.Features, c.Slow = cpuFeatures()
	// Some systems do not report everything. Show what is known.
	if info, err := cpu.Info(); err == nil && len(info) > 0 {
		c.Model = info[0].ModelName
	}
	if c.Model == "" {
		c.Model = runtime.GOARCH
	}
	if n, err := cpu.Counts(false); err == nil {
		c.Physical = n
	}
	c.Logical = runtime.NumCPU()
	if n, err := cpu.Counts(true); err == nil {
		c.Logical = n
	}
	return c
}

// cpuFeatures returns the instruction sets that runtimes use, as /proc/cpuinfo spells
// them, and why inference is slow without a missing one.
func cpuFeatures() (names []string, slow string) {
	type feature struct {
		name string
		has  bool
	}
	var all []feature
	switch runtime.GOARCH {
	case "amd64", "386":
		x := &xcpu.X86
		all = []feature{
			{"avx2", x.HasAVX2}, {"fma", x.HasFMA}, {"avx512f", x.HasAVX512F}, {"avx_vnni", x.HasAVXVNNI},
			{"avx512_vnni", x.HasAVX512VNNI}, {"avx512_bf16", x.HasAVX512BF16},
			{"amx_tile", x.HasAMXTile}, {"amx_int8", x.HasAMXInt8}, {"amx_bf16", x.HasAMXBF16},
		}
		if !x.HasAVX2 {
			slow = "without avx2 the networks run several times slower"
		}
	case "arm64":
		a := &xcpu.ARM64
		all = []feature{
			// Every 64-bit ARM has it, but users look for it.
			{"neon", true},
			{"asimdhp", a.HasASIMDHP}, {"asimddp", a.HasASIMDDP}, {"i8mm", a.HasI8MM},
			{"sve", a.HasSVE}, {"sve2", a.HasSVE2},
		}
	}
	for _, f := range all {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names, slow
}
