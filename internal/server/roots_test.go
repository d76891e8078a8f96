package server

import (
	"runtime"
	"strings"
	"testing"
)

func TestInRoots(t *testing.T) {
	inside := []string{"/srv/in/a.mp4", "/srv/in/b/c.mp4", "/srv/in/./b/../a.mp4", "/srv/in/b c/ü.mp4", "/srv/in/..a"}
	outside := []string{"", "a.mp4", "/srv/in/../a.mp4", "/srv/input/a.mp4", "/srv/a.mp4", "/", "http://host/a.mp4"}
	roots := []string{"/mnt/x", "/srv/in"}
	if runtime.GOOS == "windows" {
		roots = []string{`D:\x`, `C:\srv\in`, `\\nas\videos`}
		for _, list := range []*[]string{&inside, &outside} {
			for i, path := range *list {
				if strings.HasPrefix(path, "/") {
					path = "C:" + path
				}
				(*list)[i] = path
			}
		}
		inside = append(inside, `c:\SRV\In\a.mp4`, `\\nas\videos\a.mp4`, `\\NAS\Videos\b\a.mp4`)
		outside = append(outside, `\srv\in\a.mp4`, `C:a.mp4`, `C:srv\in\a.mp4`, `E:\srv\in\a.mp4`,
			`\\host\share\a.mp4`, `//host/share/a.mp4`, `\\nas\other\a.mp4`, `\\host@8080\DavWWWRoot\a.mp4`,
			`\\?\C:\srv\in\a.mp4`, `\\.\C:\srv\in\a.mp4`, `\??\C:\srv\in\a.mp4`, `\\?\UNC\host\share\a.mp4`, `\\.\pipe\x`, `\\.\PhysicalDrive0`,
			`C:\srv\in\NUL`, `C:\srv\in\con`, `C:\srv\in\CONIN$`, `C:\srv\in\com1`, `C:\srv\in\LPT1`, `C:\srv\in\b\AUX`, "CON",
			`C:\srv\in\a.mp4:stream`, `C:\srv\in\a.mp4::$DATA`, `C:\srv\in:stream\a.mp4`)
	}
	for _, path := range inside {
		if !inRoots(roots, path) {
			t.Errorf("%q is refused", path)
		}
	}
	for _, path := range outside {
		if inRoots(roots, path) {
			t.Errorf("%q is allowed", path)
		}
	}
}
