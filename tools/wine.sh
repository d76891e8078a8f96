#!/bin/bash
# Runs a command in a box in which `wine64 FILE.exe` runs Windows programs:
#
#   tools/wine.sh COMMAND ARGUMENT...
#
# The box has the files of this machine, except that /usr is that of Debian 13 with
# Wine 10, which is installed into ~/.cache/lipstream-test/wine first, if it is
# missing. (Go's programs do not start in Wine 8, which Debian 12 has.) All processes
# of the box end with the command.
set -euo pipefail
wine=${XDG_CACHE_HOME:-$HOME/.cache}/lipstream-test/wine
goroot=$(go env GOROOT)
# Microsoft's C++ runtime, where a program brings it: ONNX Runtime's exceptions do
# not work in Wine's. Without mscoree and mshtml, Wine does not ask for .NET.
overrides='msvcp140,msvcp140_1,msvcp140_atomic_wait,vcruntime140,vcruntime140_1=n,b;mscoree,mshtml='

# box COMMAND ARGUMENT... runs a command in the box.
box() {
	local folders=() folder
	for folder in /*; do
		case $folder in
		/usr | /bin | /sbin | /lib* | /proc | /dev) ;;
		*) [ ! -d "$folder" ] || folders+=(--bind "$folder" "$folder") ;;
		esac
	done
	# Wine keeps the socket of its server in /tmp/.wine-UID. A folder of its own makes
	# boxes independent of each other.
	bwrap --unshare-pid --die-with-parent \
		--bind "$wine/usr" /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
		"${folders[@]}" --dev-bind /dev /dev --proc /proc --tmpfs "/tmp/.wine-$(id -u)" \
		--ro-bind "$goroot" "$goroot" --chdir "$PWD" \
		--setenv PATH "/usr/lib/wine:$goroot/bin:/usr/bin" \
		--setenv LC_ALL C.UTF-8 --setenv WINELOADER /usr/lib/wine/wine64 --setenv WINESERVER /usr/lib/wine/wineserver64 \
		--setenv WINEPREFIX "$wine/prefix" --setenv WINEDEBUG "${WINEDEBUG:--all}" --setenv WINEDLLOVERRIDES "$overrides" \
		"$@"
}

# One box at a time: two have waited for each other in the same drive C.
mkdir -p "$wine"
exec 9>"$wine.lock"
flock --nonblock 9 || { echo "waiting for another box" >&2; flock 9; }
if [ ! -e "$wine/done" ]; then
	rm -rf "$wine"
	system=$wine/prefix/drive_c/windows/system32
	mkdir -p "$system"
	echo "installing Wine into $wine"
	mmdebstrap --quiet --variant=extract --include=wine64,dash,libc-bin trixie - |
		tar -x -C "$wine" ./usr/bin ./usr/lib ./usr/lib64 ./usr/share/wine ./usr/x86_64-w64-mingw32
	# The packages were only unpacked. Installing libwine would have copied this.
	cp "$wine/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$system/"
	box dash -c 'wine64 wineboot --init && wineserver64 -w' >"$wine/log" 2>&1 || { cat "$wine/log" >&2; exit 1; }
	# Without this, Wine looks for a screen, and complains if there is none.
	printf '\n[Software\\\\Wine\\\\Drivers]\n"Graphics"="null"\n' >>"$wine/prefix/user.reg"
	touch "$wine/done"
fi
box "$@" 9>&-
