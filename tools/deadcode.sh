#!/bin/sh
# Lists functions that nothing reaches, and fails if there are any.
# Usage: tools/deadcode.sh golang.org/x/tools/cmd/deadcode@VERSION
set -eu
# Functions that only tests reach count as dead. Functions in packages of test helpers
# (golden, stub, and those whose names end in "test") must be reached by a test.
helpers='^internal/([a-z]+/)*(golden|stub|[a-z]*test)/|^tools/([a-z]+/)*[a-z]*test/'
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
