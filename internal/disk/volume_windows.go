package disk

import "golang.org/x/sys/windows"

// Volume returns a name that two paths have in common if they are on the same disk. The
// path exists.
func Volume(path string) (string, error) {
	from, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return "", err
	}
	name := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(from, &name[0], uint32(len(name))); err != nil {
		return "", err
	}
	return windows.UTF16ToString(name), nil
}
