#!/bin/sh
# Runs a server, a worker and a job as containers do: the root is read-only, the
# environment is empty, without HOME, and only one folder can be written. Needs
# bubblewrap, and runs bin/lipstream with the OpenVINO that it has installed.
set -eu
cd "$(dirname "$0")/.."
program=$PWD/bin/lipstream
runtime=$(dirname "$("$program" runtime path openvino)")
data=$(mktemp -d)
touch "$data/server.log" "$data/worker.log"
server='' worker=''
finish() {
	# shellcheck disable=SC2086 # either may be empty
	kill $worker $server 2>/dev/null || true
	wait
	rm -rf "$data"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# boxed PROGRAM ARGUMENT... runs a program in the box.
boxed() {
	exec bwrap --ro-bind / / --dev /dev --proc /proc --bind "$data" "$data" --die-with-parent --chdir / \
		env -i PATH=/usr/local/bin:/usr/bin:/bin LIPSTREAM_RUNTIME_DIR="$runtime" "$@"
}

# await FILE TEXT waits until a log has the text, as long as its process lives.
await() {
	until grep -q "$2" "$1"; do
		kill -0 "$3" 2>/dev/null || { cat "$1" >&2; exit 1; }
		sleep 0.1
	done
}

if (boxed touch "$PWD/written") 2>/dev/null; then
	echo "readonly.sh: the root is not read-only" >&2
	exit 1
fi
echo 0123456789abcdef0123456789abcdef >"$data/token"
(boxed "$program" serve --listen 127.0.0.1:0 --workers-listen 127.0.0.1:0 --slots 0 --data "$data/server" --token-file "$data/token") >"$data/server.log" 2>&1 &
server=$!
await "$data/server.log" 'is listening on' $server
http=$(sed -n 's/.*is listening on \(http:[^, ]*\).*/\1/p' "$data/server.log")
nats=$(sed -n 's/.*for workers on \(nats:[^, ]*\).*/\1/p' "$data/server.log")
(boxed "$program" worker --server "$nats" --data "$data/worker" --token-file "$data/token") >"$data/worker.log" 2>&1 &
worker=$!
await "$data/worker.log" 'working for' $worker
(boxed "$program" submit --server "$http" --token-file "$data/token" --engine preview \
	--video "$PWD/testdata/demo/portrait.png" --audio "$PWD/testdata/demo/speech.wav" -o "$data/out.mp4") 2>&1 | tail -n 1
[ -s "$data/out.mp4" ] || { cat "$data/worker.log" >&2; exit 1; }
kill "$(pgrep -P $worker)" # the program: bwrap does not pass signals on
wait $worker || { cat "$data/worker.log" >&2; exit 1; }
kill "$(pgrep -P $server)"
wait $server || { cat "$data/server.log" >&2; exit 1; }
worker='' server=''
(boxed "$program" run --video "$PWD/testdata/demo/portrait.png" --audio "$PWD/testdata/demo/speech.wav" -o "$data/run.mp4" --quiet)
[ -s "$data/run.mp4" ]
echo "server, worker, submit and run work with a read-only root and without HOME"
