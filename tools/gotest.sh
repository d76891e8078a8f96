#!/bin/sh
# Runs tests and prints their results as JSON, for gotestsum --raw-command.
# Environment:
#   PACKAGES   the packages to test; ./... if unset
#   RACE       the packages to test with the race detector: ./a ./b/c
#   TESTFLAGS  more flags for go test
#   FFMPEG     the ffmpeg, with ffprobe beside it, for packages without the race detector
# Packages without the race detector are built without cgo, like the program.
# make lint vets the code.
# Tests start ffmpeg a thousand times. Debian's is linked with 200 libraries, so that it
# takes ten times longer to start than the one that lipstream installs. With FFMPEG, the
# tests cover both: internal/media and the server run Debian's, e2e runs the other.
set -u
timeout=40m
module=$(go list -m) || exit
# shellcheck disable=SC2086 # lists of words, here and below
all=$(go list ${PACKAGES:-./...}) || exit
race=
long=
rest=
for package in $all; do
	case " ${RACE-} " in
	*" .${package#"$module"} "*) race="$race $package" ;;
	*)
		case $package in
		# They take longest, so they begin first: the last one may have but one core to itself.
		*/e2e | */neural | */network | */bench | */bench/ladder | */bench/musetalk | */bench/unet | */face | */preview) long="$long $package" ;;
		*) rest="$rest $package" ;;
		esac
		;;
	esac
done
# Both run at once, because each waits for other processes at times. The results of the
# second are printed when all are there, because lines must not be mixed.
results=$(mktemp) || exit
trap 'rm -f "$results"' EXIT
[ -z "$race" ] || CGO_ENABLED=1 go test -json -vet=off -race -timeout $timeout ${TESTFLAGS-} $race >"$results" &
trap 'kill $!; exit 1' INT TERM
status=0
[ -z "$long$rest" ] || PATH="${FFMPEG:+${FFMPEG%/*}:}$PATH" CGO_ENABLED=0 go test -json -vet=off -timeout $timeout ${TESTFLAGS-} $long $rest || status=$?
wait $! || status=$?
cat "$results"
exit $status
