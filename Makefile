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
RACE += ./internal/child          # reaps processes while others stop and read them
RACE += ./internal/doctor         # checks run beside a timeout
RACE += ./internal/job            # the report samples memory while the job runs
RACE += ./internal/journal        # written by one goroutine, noted in by others
RACE += ./internal/media          # ffmpeg is fed, read and closed at the same time
RACE += ./internal/memory         # samples while others read
RACE += ./internal/pipeline       # the stages and their channels
RACE += ./internal/queue          # leases, watchers, the embedded server
RACE += ./internal/server         # requests, events, the board of jobs
RACE += ./internal/worker         # slots, heartbeats, tasks
RACE += ./tools/stress            # keeps the processors busy

# The packages that start goroutines and are run without it all the same.
NORACE += ./internal/backend/backendtest # helpers of tests; has no tests itself
NORACE += ./internal/lip/liptest          # helpers of tests; has no tests itself
NORACE += ./tools/bench/lab              # a sampler; has no tests itself
NORACE += ./tools/bench/load             # measures a server in another process

export RACE PACKAGES TESTFLAGS

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: help build demo test test-run test-short test-long stress lint runtimes chaos bench exactness readonly release release-check deps deps-test clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 12

build: ## bin/lipstream, without cgo
	CGO_ENABLED=0 go build -trimpath -o $(BIN) ./cmd/lipstream

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
	@go run $(GOTESTSUM) --format pkgname --hide-summary skipped --jsonfile out/test.json \
		--post-run-command "go run $(GOTESTSUM) tool slowest --num 10" --raw-command -- sh tools/gotest.sh \
		| sed -u -e '/^DONE /{h;s/.*/The slowest tests:/p;d}' -e '$$G' | sed -u '$${/^$$/d}'

test-short: ## the tests that take a second at most, without the race detector
	go test -short ./...

# Workers killed at random for long, 200 windows, other long tests, fuzzing, and
# the real ComfyUI if LIPSTREAM_COMFYUI and LIPSTREAM_COMFYUI_PYTHON are set.
FUZZTIME ?= 30s
test-long: export LIPSTREAM_REQUIRE_RUNTIMES = 1
test-long: export LIPSTREAM_LONG = 1
test-long: deps-test runtimes chaos readonly ## what takes long: chaos, 200 windows, fuzzing (FUZZTIME=30s a target); hours
	go test -count=1 -timeout 4h ./...
	sh tools/fuzz.sh $(FUZZTIME)

# Five rounds, in turn plain, with GOMAXPROCS=1 and with -shuffle=on.
ROUNDS ?= 5
stress: export LIPSTREAM_REQUIRE_RUNTIMES = 1
stress: deps-test runtimes ## the tests on a busy machine, ROUNDS=5 times; PACKAGES=./a chooses; out/stress.md
	go run ./tools/stress -rounds $(ROUNDS) sh tools/gotest.sh

lint: ## gofmt, vet, staticcheck, dead code
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt on:"; echo "$$unformatted"; exit 1; fi
	CGO_ENABLED=0 go vet ./...
	go run $(STATICCHECK) ./...
	sh tools/deadcode.sh $(DEADCODE)

runtimes: build
	$(BIN) runtime install openvino
	$(BIN) runtime install onnxruntime
	$(BIN) runtime install webgpu

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
	sh tools/deps.sh ffmpeg ffprobe pip gcc chromium vulkan torch

clean: ## remove bin, out and dist
	rm -rf bin out dist
