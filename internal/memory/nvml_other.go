//go:build !linux && !windows

package memory

// nvml is empty: NVIDIA's library exists only for Linux and Windows.
type nvml struct{}

func openNVML(string) (*nvml, error) { return nil, nil }

func (*nvml) list() ([]GPU, error) { return nil, nil }
func (*nvml) close() error         { return nil }
