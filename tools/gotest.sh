#!/bin/sh
# Runs tests and prints their results as JSON, for gotestsum --raw-command.
# Environment:
#   PACKAGES   the packages to test; ./... if unset
#   RACE       the packages to test with the race detector: ./a ./b/c
#   TESTFLAGS  more flags for go test
# Packages without the race detector are built without cgo, like the program.
set -u
timeout=40m
module=$(go list -m) || exit
# shellcheck disable=SC2086 # lists of words, here and below
all=$(go list ${PACKAGES:-./...}) || exit
race=
rest=
for package in $all; do
	case " ${RACE-} " in
	*" .${package#"$module"} "*) race="$race $package" ;;
	*) rest="$rest $package" ;;
	esac
done
status=0
[ -z "$rest" ] || CGO_ENABLED=0 go test -json -timeout $timeout ${TESTFLAGS-} $rest || status=$?
[ -z "$race" ] || CGO_ENABLED=1 go test -json -race -timeout $timeout ${TESTFLAGS-} $race || status=$?
exit $status
