#!/bin/sh
# Lists functions that nothing reaches, and fails if there are any.
# Usage: tools/deadcode.sh golang.org/x/tools/cmd/deadcode@VERSION
set -eu
# What only tests reach counts as dead in the program. Packages of helpers for
# tests (their names end in "test", and golden) have to be reached by a test.
helpers='^internal/([a-z]+/)*(golden|[a-z]*test)/|^tools/([a-z]+/)*[a-z]*test/'
program=$(go run "$1" ./...)
tests=$(go run "$1" -test ./...)
dead=$(
	echo "$program" | grep -vE "$helpers" || true
	echo "$tests" | grep -E "$helpers" || true
)
[ -z "$dead" ] || {
	echo "$dead"
	exit 1
}
