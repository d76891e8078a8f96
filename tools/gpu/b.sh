#!/usr/bin/env bash
# Step B: is it right, and is it fast? Run it in the checkout, which has testdata/latentsync.
here=$(cd "$(dirname "$0")" && pwd)
BUDGET=${BUDGET:-480}
. "$here/kit.sh"
root=$PWD

latents="32 64" frames=16 steps=10
if [ "$SIZE" = tiny ]; then latents="8 16" frames=2 steps=2; fi
unpack "$KIT/bin" || exit 1

make_models >"$results/models.log" 2>&1 & # while the tests run
making=$!

part doctor 60 lipstream doctor
part check 90 lipstream check --device "$DEVICE"

# Tests run in the folder of their package, as go test does.
export LIPSTREAM_TEST_DEVICE=$DEVICE LIPSTREAM_EXACTNESS=$results/exactness.jsonl
tests() {
	local binary=$KIT/bin/$(echo "$1" | tr / _).test
	mkdir -p "$root/$1"
	cd "$root/$1" && "$binary" -test.v -test.run "$2"
}
export -f tests
export root
part conformance 90 bash -c 'tests internal/backend/onnxruntime Conformance'
part network 90 bash -c 'tests internal/network "^Test(UNet|VAE|Whisper)Golden"'
part neural 120 bash -c 'tests internal/neural "^Test(EndToEnd|DeepCache|Tokens)Golden|^TestResidentLatents"'

part waiting 120 tail --pid="$making" -f /dev/null
peer=("$PYTHON" "$KIT/bin/peers/unet.py" time --checkpoint "$models/latentsync_unet.pt" --dtype "$precision" --device "$DEVICE" --frames "$frames" --steps "$steps")
for latent in $latents; do
	unet=(bench unet --backend onnxruntime --device "$DEVICE" --precision "$precision" --models "$models" --frames "$frames" --latent "$latent" --steps "$steps")
	part "unet-$latent-2" 90 "${unet[@]}" --batch 2 --deepcache --nodes --report "$results/unet-$latent-2.json"
	part "eager-$latent" 60 "${peer[@]}" --latent "$latent"
	part "unet-$latent-1" 60 "${unet[@]}" --batch 1 --deepcache --report "$results/unet-$latent-1.json"
done
# Compiling takes longest and comes last.
for latent in $latents; do
	part "compiled-$latent" 120 "${peer[@]}" --latent "$latent" --compile
done
