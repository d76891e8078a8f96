# The two commands to know: make demo, make test. Both install what they need.
# make help lists all.

BIN := bin/lipstream

# Tools, pinned. They are not part of go.mod, so that nothing of theirs gets
# into the program.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.1
DEADCODE := golang.org/x/tools/cmd/deadcode@v0.51.0
GOTESTSUM := gotest.tools/gotestsum@v1.13.0
SBOM := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# The packages in which goroutines meet: make test runs them with the race
# detector, and all others without, because it makes computing ten times slower.
# A test (race_test.go) fails if a package that starts goroutines is in neither
# of the two lists.
RACE += ./cmd/lipstream           # the progress line, followers of logs, the parts of serve
RACE += ./internal/backend/native      # starts the thread that loads libraries
RACE += ./internal/backend/onnxruntime # several callers of a session
RACE += ./internal/backend/openvino    # several callers of a session
RACE += ./internal/check          # the devices compute beside Run
RACE += ./internal/certificate    # connections read files that change
RACE += ./internal/child          # reaps processes while others stop and read them
RACE += ./internal/doctor         # checks run beside a timeout
RACE += ./internal/job            # the report samples memory while the job runs
RACE += ./internal/journal        # written by one goroutine, noted in by others
RACE += ./internal/media          # ffmpeg is fed, read and closed at the same time
RACE += ./internal/memory         # samples while others read
RACE += ./internal/pipeline       # the stages and their channels
RACE += ./internal/queue          # leases, watchers, the embedded server
RACE += ./internal/server         # requests, events, the board of jobs
RACE += ./internal/store          # reads that stall
RACE += ./internal/worker         # slots, heartbeats, tasks
RACE += ./tools/bench/fleet       # many workers on one queue
RACE += ./tools/stress            # keeps the processors busy

# The packages that start goroutines and are run without it all the same.
NORACE += ./internal/backend/backendtest # helpers of tests; has no tests itself
NORACE += ./internal/store/storetest       # runs a program; has no tests itself
NORACE += ./internal/lip/liptest          # helpers of tests; has no tests itself
NORACE += ./internal/network           # loads graphs two at a time; its tests take minutes without it
NORACE += ./tools/bench/lab              # a sampler; has no tests itself
NORACE += ./tools/bench/load             # measures a server in another process

export RACE PACKAGES TESTFLAGS

# The program, the linters and the tests are built without cgo and with the same flags, so
# that the packages are compiled once for all. Only the race detector needs cgo.
export CGO_ENABLED := 0

# The cache folder in which tests find the ffmpeg that lipstream installs.
TESTCACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lipstream-test

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: help build demo test test-run test-short test-long test-arm64 test-windows stress lint runtimes chaos bench exactness readonly release release-check deps deps-test clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 12

build: ## bin/lipstream, without cgo
	go build -o $(BIN) ./cmd/lipstream

demo: deps build ## a picture and a voice become out/demo.mp4
	$(BIN) runtime install openvino
	mkdir -p out
	$(BIN) run --video testdata/demo/portrait.png --audio testdata/demo/speech.wav -o out/demo.mp4 --overwrite
	@echo "Look at out/demo.mp4"

test: deps-test build runtimes lint test-run ## everything that CI checks: lint and all tests

# Only the tests. A test that needs a runtime fails rather than skips. The last
# line is gotestsum's, with the time that the tests took.
test-run: export LIPSTREAM_REQUIRE_RUNTIMES = 1
test-run:
	@mkdir -p out
	@FFMPEG=$$(ls -d $(TESTCACHE)/lipstream/runtimes/ffmpeg-*/ffmpeg 2>/dev/null | tail -n 1) \
		go run $(GOTESTSUM) --format pkgname --hide-summary skipped --jsonfile out/test.json \
		--post-run-command "go run $(GOTESTSUM) tool slowest --num 10" --raw-command -- sh tools/gotest.sh \
		| sed -u -e '/^DONE /{h;s/.*/The slowest tests:/p;d}' -e '$$G' | sed -u '$${/^$$/d}'

test-short: ## the tests that take a second at most, without the race detector
	go test -short ./...

# Workers killed at random for long, 200 windows, other long tests, fuzzing, and
# the real ComfyUI if LIPSTREAM_COMFYUI and LIPSTREAM_COMFYUI_PYTHON are set.
FUZZTIME ?= 30s
test-long: export LIPSTREAM_REQUIRE_RUNTIMES = 1
test-long: export LIPSTREAM_LONG = 1
test-long: deps-test runtimes chaos readonly test-windows ## what takes long: chaos, 200 windows, fuzzing (FUZZTIME=30s a target); hours
	go test -count=1 -timeout 4h ./...
	sh tools/fuzz.sh $(FUZZTIME)
	LIPSTREAM_LONG= $(MAKE) test-arm64

# What can be run for Linux on arm64 without such a machine: 10 times slower. The
# arithmetic is the same on Apple's processors: Go fuses multiplications and additions.
ARM64 += ./internal/audio ./internal/checkpoint ./internal/child ./internal/disk ./internal/frame ./internal/memory
ARM64 += ./internal/musetalk ./internal/backend/native ./internal/onnx ./internal/sampler ./internal/tensor
test-arm64: export GOARCH = arm64
test-arm64: ## on arm64 emulated by QEMU: tests, both runtimes, jobs, a server; 30 minutes
	sh tools/deps.sh ffmpeg ffprobe pip mmdebstrap qemu-aarch64-static aarch64-linux-gnu-gcc
	go build -trimpath -o $(BIN)-arm64 ./cmd/lipstream
	tools/arm64.sh $(BIN)-arm64 runtime install onnxruntime
	tools/arm64.sh $(BIN)-arm64 runtime install openvino
	tools/arm64.sh $(BIN)-arm64 doctor
	go test -short -timeout 30m -exec $(CURDIR)/tools/arm64.sh $(ARM64)
	go test -timeout 30m -run 'Golden|Bits|Hashes' -exec $(CURDIR)/tools/arm64.sh ./internal/face
	mkdir -p out
	ffmpeg -v error -y -i testdata/demo/speech.wav -t 1 out/second.wav
	for backend in onnxruntime openvino; do \
		tools/arm64.sh $(BIN)-arm64 check --backend $$backend && \
		tools/arm64.sh $(BIN)-arm64 run --backend $$backend --engine preview --quiet --overwrite \
			--video testdata/demo/portrait.png --audio out/second.wav -o out/arm64-$$backend.mp4 || exit 1; \
	done
	go test -timeout 30m -run 'TestServe(UntilEOF)?$$' -exec $(CURDIR)/tools/arm64.sh ./e2e

# Installs Wine 10 into ~/.cache/lipstream-test, on Debian 12 or newer, as root or not.
# PACKAGES=./a TESTFLAGS=-short chooses.
test-windows: ## the tests of the Windows build, under Wine; many minutes
	sh tools/deps.sh bwrap mmdebstrap
	tools/windows.sh

# Five rounds, in turn plain, with GOMAXPROCS=1 and with -shuffle=on.
ROUNDS ?= 5
stress: export LIPSTREAM_REQUIRE_RUNTIMES = 1
stress: deps-test runtimes ## the tests on a busy machine, ROUNDS=5 times; PACKAGES=./a chooses; out/stress.md
	go run ./tools/stress -rounds $(ROUNDS) sh tools/gotest.sh

lint: ## gofmt, vet, staticcheck, dead code
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	sh tools/deadcode.sh $(DEADCODE)

runtimes: build
	$(BIN) runtime install openvino
	$(BIN) runtime install onnxruntime
	$(BIN) runtime install webgpu
	XDG_CACHE_HOME=$(TESTCACHE) $(BIN) runtime install ffmpeg >/dev/null

chaos: export LIPSTREAM_REQUIRE_RUNTIMES = 1
chaos: deps-test runtimes ## workers killed at random, 50 times; parts of LatentSync; minutes
	LIPSTREAM_LONG=1 LIPSTREAM_CHAOS_KILLS=50 LIPSTREAM_CHAOS_JOBS=20 go test -count=1 -v -timeout 60m -run 'TestChaos|TestParts' ./e2e

bench: deps build ## speed and memory on this machine: out/bench-run.json
	$(BIN) runtime install openvino
	$(BIN) bench run --report out/bench-run.json

exactness: runtimes ## docs/exactness.md, from what the golden tests measure
	rm -f out/exactness.jsonl; mkdir -p out
	LIPSTREAM_REQUIRE_RUNTIMES=1 LIPSTREAM_EXACTNESS=$(CURDIR)/out/exactness.jsonl go test -count=1 ./internal/audio ./internal/face ./internal/musetalk ./internal/neural/... ./internal/network
	go run ./tools/exactness out/exactness.jsonl > out/exactness.md && mv out/exactness.md docs/exactness.md

readonly: runtimes ## server, worker and job with a read-only root and without HOME
	sh tools/deps.sh bwrap
	sh tools/readonly.sh

# Archives, SBOMs and checksums of the commit; docs/release.md.
PLATFORMS ?= linux/amd64,linux/arm64,windows/amd64,windows/arm64,darwin/amd64,darwin/arm64
release: ## dist/: archives for PLATFORMS, SBOMs, checksums
	go run ./tools/release -platforms $(PLATFORMS) -sbom $(SBOM)

release-check: ## the same twice, in two folders; the bytes must be equal, and go install must work
	go run ./tools/release -platforms $(PLATFORMS) -sbom $(SBOM) -check

deps: ## install what lipstream needs
	sh tools/deps.sh ffmpeg ffprobe pip

deps-test: ## install what the tests need
	sh tools/deps.sh ffmpeg ffprobe pip gcc chromium vulkan torch bwrap

clean: ## remove bin, out and dist
	rm -rf bin out dist
