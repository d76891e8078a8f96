package native

import (
	"runtime"
	"sync"

	"github.com/shirou/gopsutil/v4/cpu"
)

// CPUName is what the maker calls the processor, or the architecture's name.
var CPUName = sync.OnceValue(func() string {
	info, err := cpu.Info()
	if err != nil || len(info) == 0 || info[0].ModelName == "" {
		return runtime.GOARCH
	}
	return info[0].ModelName
})
