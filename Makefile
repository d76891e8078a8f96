# The two commands to know: make demo, make test. Both install what they need.

BIN := bin/lipstream
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.1

.PHONY: chaos exactness build demo test lint race deps deps-test runtimes bench clean

build:
	CGO_ENABLED=0 go build -trimpath -o $(BIN) ./cmd/lipstream

# A picture and a voice become out/demo.mp4.
demo: deps build
	$(BIN) runtime install openvino
	mkdir -p out
	$(BIN) run --video testdata/demo/portrait.png --audio testdata/demo/speech.wav -o out/demo.mp4 --overwrite
	@echo "Look at out/demo.mp4"

# What CI runs.
test: deps-test build runtimes lint race

lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt on:"; echo "$$unformatted"; exit 1; fi
	CGO_ENABLED=0 go vet ./...
	go run $(STATICCHECK) ./...

# Tests that need a runtime fail rather than skip: it has just been installed.
# The end-to-end tests have the machine to themselves, because they look at the
# clock when they interrupt a job.
race: export LIPSTREAM_REQUIRE_RUNTIMES = 1
race:
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v '/e2e$$')
	go test -timeout 20m ./e2e

runtimes: build
	$(BIN) runtime install openvino
	$(BIN) runtime install onnxruntime

# Workers killed at random, for long; parts of LatentSync; minutes.
chaos: export LIPSTREAM_REQUIRE_RUNTIMES = 1
chaos: deps-test runtimes
	LIPSTREAM_LONG=1 LIPSTREAM_CHAOS_KILLS=50 LIPSTREAM_CHAOS_JOBS=20 go test -count=1 -v -timeout 60m -run 'TestChaos|TestParts' ./e2e

bench: deps build
	$(BIN) runtime install openvino
	$(BIN) bench run --report out/bench-run.json

# docs/exactness.md, from what the golden tests measure.
exactness: runtimes
	rm -f out/exactness.jsonl; mkdir -p out
	LIPSTREAM_REQUIRE_RUNTIMES=1 LIPSTREAM_EXACTNESS=$(CURDIR)/out/exactness.jsonl go test -count=1 ./internal/audio ./internal/face ./internal/latentsync/...
	go run ./tools/exactness out/exactness.jsonl > out/exactness.md && mv out/exactness.md docs/exactness.md

deps:
	sh tools/deps.sh ffmpeg ffprobe pip

deps-test:
	sh tools/deps.sh ffmpeg ffprobe pip gcc chromium torch

clean:
	rm -rf bin out
