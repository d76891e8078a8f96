package native

import (
	"os"
	"sync"

	"github.com/ebitengine/purego"
)

// mmapThreshold is the size from which allocations get their own pages. 4 MiB is more
// than the frequent allocations of networks and less than weights and feature maps.
const mmapThreshold = 4 << 20

// ReturnLargeBlocks makes the C library return large blocks to the system when they
// are freed. By default, glibc raises the size from which it does so with every such
// block, up to 32 MiB, and keeps what compiling and computing have freed: 160 MB of
// the denoising network's 3.7 GB. A threshold that the user has set in the
// environment has priority.
func ReturnLargeBlocks() {
	const mMmapThreshold = -3 // M_MMAP_THRESHOLD of malloc.h
	if os.Getenv("MALLOC_MMAP_THRESHOLD_") != "" || os.Getenv("GLIBC_TUNABLES") != "" {
		return
	}
	// int mallopt(int param, int value); musl has none.
	addr, err := purego.Dlsym(purego.RTLD_DEFAULT, "mallopt")
	if err != nil || addr == 0 {
		return
	}
	var mallopt func(param, value int32) int32
	if Register(&mallopt, addr) == nil {
		mallopt(mMmapThreshold, mmapThreshold) // only costs memory if it fails
	}
}

// ReturnFree makes the C library return to the system what it keeps for later
// allocations.
func ReturnFree() {
	if trim := mallocTrim(); trim != nil {
		trim(0)
	}
}

// mallocTrim is int malloc_trim(size_t pad) of glibc; musl has none.
var mallocTrim = sync.OnceValue(func() (trim func(pad uintptr) int32) {
	addr, err := purego.Dlsym(purego.RTLD_DEFAULT, "malloc_trim")
	if err != nil || addr == 0 || Register(&trim, addr) != nil {
		return nil
	}
	return trim
})
