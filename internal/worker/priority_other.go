//go:build !linux && !windows

package worker

func lowerPriority(int) {}
