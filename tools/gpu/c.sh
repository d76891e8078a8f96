#!/usr/bin/env bash
# Step C: whole jobs, from video to video: speed, memory, another program on the card.
here=$(cd "$(dirname "$0")" && pwd)
BUDGET=${BUDGET:-360}
. "$here/kit.sh"

short=4 long=29 brief=1 rate=8 large=512 small=256 steps=20 few=2 # 60 windows have 724 frames
if [ "$SIZE" = tiny ]; then short=1 long=1.2 brief=0.5 rate=0.7 large=128 small=128 steps=2 few=1; fi
unpack "$KIT/bin" || exit 1
cd "$KIT/bin" || exit 1
part models 150 bash -c make_models

# clip SECONDS makes a video of the demo's face, which moves, and a voice of the same length.
clip() {
	ffmpeg -v error -y -loop 1 -framerate 25 -i portrait.png -t "$1" -c:v libx264 -preset veryfast -crf 18 -pix_fmt yuv420p \
		-vf "scale=640:640:force_original_aspect_ratio=increase,crop=600:600:x='(iw-600)/2*(1+sin(t))':y='(ih-600)/2'" "clip-$1.mp4" &&
		ffmpeg -v error -y -stream_loop -1 -i speech.wav -t "$1" -c:a pcm_s16le "clip-$1.wav"
}
export -f clip
for s in $short $long $brief $rate; do part "clip-$s" 60 bash -c "clip $s"; done

# job NAME SECONDS LENGTH [OPTION...] -- FLAG... runs a job with what job.py and lipstream take.
job() {
	local name=$1 limit=$2 clip=clip-$3 options=()
	shift 3
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	part "$name" "$limit" "$PYTHON" "$here/job.py" "$results/$name.json" --device "$DEVICE" "${options[@]}" -- \
		lipstream run --engine latentsync --models "$models" --device "$DEVICE" --backend onnxruntime --video "$clip.mp4" --audio "$clip.wav" \
		-o "$KIT/out.mp4" -y --resume never "$@"
}

lipstream monitor --csv "$results/monitor.csv" --interval 1s >/dev/null 2>&1 &
monitor=$!
job large 120 $short --estimate -- --resolution $large --steps $steps
kill -INT $monitor
job small 60 $rate --estimate -- --resolution $small --steps $((steps / 2)) --deepcache 3
job windows 90 $long -- --resolution $small --steps $few --windows 1
job hog 90 $short --hog "$PYTHON $here/hog.py $DEVICE 3000 20" --after 20 -- --resolution $large --steps $steps
for offload in none model sequential; do
	job offload-$offload 60 $brief --estimate -- --resolution $large --steps $few --offload $offload
done
