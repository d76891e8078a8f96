#!/bin/sh
# Runs a program for linux/arm64 with QEMU's emulation of a processor:
#
#   tools/arm64.sh PROGRAM ARGUMENT...
#
# The program sees the files of this machine, and starts its other programs, such as
# ffmpeg. The C library is that of Debian's arm64, which is installed into
# ~/.cache/lipstream-test/arm64 first, if it is missing. The runtimes for arm64 are
# installed there too.
set -eu
if command -v go >/dev/null; then
	GOCACHE=$(go env GOCACHE) # for tests that build programs
	export GOCACHE
fi
arm64=${XDG_CACHE_HOME:-$HOME/.cache}/lipstream-test/arm64
if [ ! -e "$arm64/done" ]; then
	rm -rf "$arm64"
	mkdir -p "$arm64/root" "$arm64/bin"
	echo "installing Debian's C library for arm64 into $arm64" >&2
	mmdebstrap --quiet --architectures=arm64 --variant=extract --include=libstdc++6 bookworm - |
		tar -x -C "$arm64/root" ./lib ./usr/lib
	# The runtimes read what the kernel says about the processor. ONNX Runtime crashes if
	# it is another one.
	for cpu in $(seq 0 $(($(nproc) - 1))); do
		printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n' "$cpu" >>"$arm64/cpuinfo"
		folder=$arm64/root/sys/devices/system/cpu/cpu$cpu/regs/identification
		mkdir -p "$folder"
		echo 0x00000000413fd0c1 >"$folder/midr_el1"
	done
	# Tests compile libraries with gcc.
	ln -s "$(command -v aarch64-linux-gnu-gcc)" "$arm64/bin/gcc"
	touch "$arm64/done"
fi
export QEMU_LD_PREFIX="$arm64/root" QEMU_CPU=neoverse-n1 XDG_CACHE_HOME="$arm64/cache" PATH="$arm64/bin:$PATH"
# QEMU looks for all files in QEMU_LD_PREFIX first. The kernel (6.7 or later) learns in a
# namespace of its own how to start programs of arm64, so that the program can start itself.
exec unshare --user --map-root-user --mount sh -c 'set -e
	mount --bind "$0/cpuinfo" /proc/cpuinfo
	mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
	cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
	exec "$@"' "$arm64" "$@"
