#!/bin/sh
# Runs every fuzz target for the given time.
# Usage: tools/fuzz.sh TIME    (30s, or 1000x for a number of inputs)
set -eu
[ $# -eq 1 ] || {
	echo "usage: $0 TIME" >&2
	exit 2
}
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	folder=$(go list -f '{{.Dir}}' "$package")
	grep -qs '^func Fuzz' "$folder"/*_test.go || continue
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
	done
done
