//go:build !linux && !windows

package memory

// nvml is nothing here: NVIDIA's library exists for Linux and Windows.
type nvml struct{}

func openNVML(string) (*nvml, error) { return nil, nil }

func (*nvml) list() ([]GPU, error) { return nil, nil }
func (*nvml) close() error         { return nil }
