#!/bin/bash
# Tests the Windows build under Wine: go test -exec of all packages, e2e with
# lipstream.exe among them. Environment:
#   PACKAGES   the packages to test; ./... if unset
#   TESTFLAGS  more flags for go test, such as -short
set -euo pipefail
cd "$(dirname "$0")/.."
export GOOS=windows CGO_ENABLED=0 LIPSTREAM_REQUIRE_RUNTIMES=1
unset LIPSTREAM_LONG # make test-long sets it; Wine is slow enough
export LIPSTREAM_BIN=$PWD/out/windows/lipstream.exe
# Outside of the box, whose Debian has no git.
go build -trimpath -o "$LIPSTREAM_BIN" ./cmd/lipstream
# They stay installed, in Wine's drive C.
for runtime in ffmpeg onnxruntime openvino; do
	tools/wine.sh wine64 "$LIPSTREAM_BIN" runtime install $runtime
done
# shellcheck disable=SC2086 # lists of words
tools/wine.sh go test -exec wine64 -timeout 60m ${TESTFLAGS-} ${PACKAGES:-./...}
