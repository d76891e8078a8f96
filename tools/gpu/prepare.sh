#!/usr/bin/env bash
# Packs what a bare CUDA 13 machine needs to check the GPU path, into three folders of .kit/,
# each with its script. docs/gpu/README.md says how they are used. Run it from the root of
# the project; it takes minutes. The first argument is the card's architecture, the others
# are the folders to make again.
#   tools/gpu/prepare.sh [90 [a b c]]
set -euo pipefail
arch=${1:-90}
shift || true
kits=${*:-a b c}
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
[ -f go.mod ] || { echo "prepare.sh: $PWD is not the root of the project" >&2; exit 2; }
kit=$PWD/.kit
exclude=$(git rev-parse --git-path info/exclude)
grep -qx '/.kit/' "$exclude" 2>/dev/null || { mkdir -p "$(dirname "$exclude")"; echo '/.kit/' >>"$exclude"; }
for d in $kits; do rm -rf "${kit:?}/$d"; done
mkdir -p "$kit"/{a,b,c}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# wheel PACKAGE PLATFORM... downloads a wheel of PyPI.
wheel() {
	local package=$1 args=() p
	shift
	for p in "$@"; do args+=(--platform "$p"); done
	python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --implementation cp "${args[@]}" -d "$tmp" "$package"
}

# a: ONNX Runtime for CUDA 13.
make_a() {
	local version capi f
	version=$(sed -n 's/.*Project: "onnxruntime-gpu", Version: "\([^"]*\)".*/\1/p' internal/backend/wheels/table.go | head -1)
	wheel "onnxruntime-gpu==$version" manylinux_2_28_x86_64 manylinux_2_27_x86_64
	unzip -q "$tmp"/onnxruntime_gpu-*.whl 'onnxruntime/capi/libonnxruntime*' -d "$tmp/ort"
	capi=$tmp/ort/onnxruntime/capi
	python3 "$here/thin.py" "$capi/libonnxruntime_providers_cuda.so" "$tmp/libonnxruntime_providers_cuda.so" "$arch"
	for f in "$tmp/libonnxruntime_providers_cuda.so" "$capi"/libonnxruntime.so.* "$capi/libonnxruntime_providers_shared.so"; do
		xz -T2 -6 -c "$f" >"$kit/a/$(basename "$f").xz"
	done
}

# b: programs and test binaries.
make_b() {
	local build p
	export CGO_ENABLED=0 GOOS=linux GOARCH=amd64
	build=(-trimpath "-ldflags=-s -w")
	mkdir "$tmp/bin"
	go build "${build[@]}" -o "$tmp/bin/" ./cmd/lipstream ./tools/bench
	for p in internal/backend/onnxruntime internal/network internal/neural; do
		go test -c "${build[@]}" -o "$tmp/bin/$(echo $p | tr / _).test" "./$p"
	done
	cp -r tools/peers "$tmp/bin/"
	# One archive with a window of 64 MiB, because the programs have much in common.
	tar -C "$tmp/bin" -cf - . | xz -9 >"$kit/b/programs.tar.xz"
}

# c: ffmpeg, ffprobe, the demo.
make_c() {
	wheel imageio-ffmpeg==0.6.0 manylinux2014_x86_64
	unzip -q -j "$tmp"/imageio_ffmpeg-*.whl 'imageio_ffmpeg/binaries/ffmpeg-linux*' -d "$tmp/ff"
	(cd "$tmp" && npm pack -s @ffprobe-installer/linux-x64@5.2.0 >/dev/null && tar xzf ffprobe-installer-linux-x64-*.tgz)
	xz -T2 -6 -c "$tmp"/ff/ffmpeg-linux* >"$kit/c/ffmpeg.xz"
	xz -T2 -6 -c "$tmp"/package/ffprobe >"$kit/c/ffprobe.xz"
	cp testdata/demo/portrait.png testdata/demo/speech.wav "$kit/c/"
}

for d in $kits; do
	echo "== $d"
	make_$d
done

commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD || commit=$commit-changed
for d in a b c; do
	cp "$here/$d.sh" "$here"/{kit.sh,unpack.py,summary.py} "$kit/$d/"
	echo "$commit" >"$kit/$d/commit"
done
cp "$here/load.py" "$kit/a/"
cp "$here"/{job,hog}.py "$kit/c/"

# At most 64 MiB travel at a time, the checkout included: go.mod for a and c, and the data of
# the tests for b.
data=$(git ls-files -z testdata/latentsync | xargs -0 du -cm | tail -1 | cut -f1)
for d in a b c; do
	size=$(du -sm "$kit/$d" | cut -f1)
	limit=62
	[ $d != b ] || limit=$((62 - data))
	echo "$d: $size MiB"
	[ "$size" -le "$limit" ] || { echo "$d: $size MiB is too much for one transfer, the limit is $limit" >&2; exit 1; }
done
