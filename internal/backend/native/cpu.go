package native

import (
	"runtime"
	"sync"

	"github.com/shirou/gopsutil/v4/cpu"
)

// CPUName returns the maker's name of the processor, or the architecture.
var CPUName = sync.OnceValue(func() string {
	info, err := cpu.Info()
	if err != nil || len(info) == 0 || info[0].ModelName == "" {
		return runtime.GOARCH
	}
	return info[0].ModelName
})
