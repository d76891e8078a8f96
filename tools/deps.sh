#!/bin/sh
# Installs the named programs if they are missing. It uses apt on Debian and its
# derivatives; on other systems it prints what to install.
set -eu

have() {
	case $1 in
	pip) command -v pip3 >/dev/null || command -v pip >/dev/null || python3 -m pip --version >/dev/null 2>&1 ;;
	# The Python packages of ComfyUI, for the tests of its nodes, in Debian's Python.
	torch) /usr/bin/python3 -c 'import torch, numpy, PIL' 2>/dev/null ;;
	# The loader of Vulkan, for the tests of WebGPU. Its software GPU comes with chromium.
	vulkan) /sbin/ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1 ' ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

package() {
	case $1 in
	ffprobe) echo ffmpeg ;;
	pip) echo python3-pip ;;
	bwrap) echo bubblewrap procps ;;
	mmdebstrap) echo mmdebstrap uidmap ;; # uidmap: for other users than root
	gcc) echo gcc libc6-dev ;;
	aarch64-linux-gnu-gcc) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
	qemu-aarch64-static) echo qemu-user-static ;;
	vulkan) echo libvulkan1 ;;
	torch) echo python3-torch python3-numpy python3-pil ;;
	*) echo "$1" ;;
	esac
}

missing=
for program in "$@"; do
	have "$program" && continue
	package=$(package "$program")
	case "$missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "please install:$missing" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "please install, as root: apt-get install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
echo "installing:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
