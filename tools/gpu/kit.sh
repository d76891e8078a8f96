# The common part of a.sh, b.sh and c.sh, which source it. Variables:
#   OUT      folder of the results; what the steps before found is copied there as well
#   KIT      where the kits are unpacked (/root/kit)
#   DEVICE   what to check (cuda:0)
#   SIZE     of the checkpoint with random weights, full or tiny (full)
#   PYTHON   a Python with PyTorch (python3)
#   BUDGET   seconds for the whole script
# shellcheck shell=bash disable=SC2034
set -uo pipefail # not -e: a part that fails must not end the others
export OUT=${OUT:?set OUT to the folder of the results}
export KIT=${KIT:-/root/kit} DEVICE=${DEVICE:-cuda:0} SIZE=${SIZE:-full} PYTHON=${PYTHON:-python3}
export LIPSTREAM_RUNTIME_DIR=$KIT/ort LIPSTREAM_PYTHON=$PYTHON
export LIPSTREAM_FFMPEG=$KIT/bin/ffmpeg LIPSTREAM_FFPROBE=$KIT/bin/ffprobe
export XDG_CACHE_HOME=$KIT/cache PATH=$KIT/bin:$PATH
step=$(basename "$0" .sh)
results=$OUT/$step
models=$KIT/models
mkdir -p "$KIT/results" "$KIT/bin"
cp -r "$KIT/results/." "$OUT/"
rm -rf "$results"
mkdir -p "$results"
cp "$here/commit" "$results/"
echo "device $DEVICE, checkpoint of random weights ($SIZE)" >"$results/settings"
: >"$results/parts.jsonl"

# unpack TARGET unpacks this kit.
unpack() { "$PYTHON" "$here/unpack.py" "$here" "$1"; }

# part NAME SECONDS COMMAND... runs a part with a limit of time. Its output goes to a file;
# the terminal gets a line, and the last lines if it fails.
part() {
	local name=$1 limit=$2 left=$((BUDGET - SECONDS)) began=$EPOCHREALTIME rc=0
	shift 2
	[ "$limit" -le "$left" ] || limit=$left
	if [ "$limit" -gt 0 ]; then
		timeout -k 5 "$limit" "$@" >"$results/$name.log" 2>&1 </dev/null || rc=$?
	else
		rc=124
	fi
	"$PYTHON" - "$name" "$rc" "$began" "$EPOCHREALTIME" >>"$results/parts.jsonl" <<-'PY'
		import json, sys
		name, rc, began, ended = sys.argv[1:]
		print(json.dumps({"part": name, "rc": int(rc), "seconds": round(float(ended) - float(began), 2)}))
	PY
	printf '%-24s rc %d, at %d s\n' "$name" "$rc" "$SECONDS"
	[ "$rc" = 0 ] || tail -n 8 "$results/$name.log" 2>/dev/null | cut -c1-300
}

precision=f16
[ "$DEVICE" != cpu ] || precision=f32

# make_models makes the checkpoint, unless an earlier step has. It takes a minute.
make_models() {
	[ ! -f "$models/done" ] || return 0
	rm -rf "$models"
	lipstream models synth --size "$SIZE" --dir "$models" &&
		{ [ "$precision" = f32 ] || lipstream models prepare "$models" --dtype "$precision"; } &&
		touch "$models/done"
}
export models precision
export -f make_models

# finish keeps the results for the steps that follow, and writes the summary.
finish() {
	rm -rf "${KIT:?}/results/$step"
	cp -r "$results" "$KIT/results/"
	"$PYTHON" "$here/summary.py" "$OUT"
}
trap finish EXIT

# card prints the columns of nvidia-smi, or fails.
card() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits; }
