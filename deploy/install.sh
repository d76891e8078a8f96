#!/bin/sh
# Installs Lipstream for this user, without root.
#
#   sh install.sh [FOLDER]     the folder for the program; ~/.local/bin by default
#
# LIPSTREAM_VERSION      a version such as v1.2.3; the latest by default
# LIPSTREAM_RELEASE_URL  the address of the folder with the archives and SHA256SUMS
#
# Everything is in a function, so that nothing runs if the download was cut off.
set -eu

die() {
	echo "install.sh: $*" >&2
	exit 1
}

# fetch URL FILE
fetch() {
	if command -v curl >/dev/null; then
		curl -fsSL --retry 2 -o "$2" "$1" || die "cannot download $1"
	elif command -v wget >/dev/null; then
		wget -q -O "$2" "$1" || die "cannot download $1"
	else
		die "curl or wget is needed"
	fi
}

# checksum FILE
checksum() {
	if command -v sha256sum >/dev/null; then
		sha256sum "$1" | cut -d ' ' -f 1
	elif command -v shasum >/dev/null; then
		shasum -a 256 "$1" | cut -d ' ' -f 1
	else
		die "sha256sum or shasum is needed"
	fi
}

main() {
	[ $# -le 1 ] || die "usage: sh install.sh [FOLDER]"
	if [ $# -eq 1 ]; then
		folder=$1
	else
		[ -n "${HOME:-}" ] || die "HOME is not set; say in which folder to install"
		folder=$HOME/.local/bin
	fi
	case $(uname -s) in
	Linux) system=linux ;;
	Darwin) system=darwin ;;
	*) die "there is no archive for $(uname -s); on Windows use install.ps1" ;;
	esac
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) die "there is no archive for $(uname -m)" ;;
	esac
	releases=https://github.com/lipstream/lipstream/releases
	if [ -n "${LIPSTREAM_RELEASE_URL:-}" ]; then
		url=${LIPSTREAM_RELEASE_URL%/}
	elif [ -n "${LIPSTREAM_VERSION:-}" ]; then
		url=$releases/download/$LIPSTREAM_VERSION
	else
		url=$releases/latest/download
	fi
	name=lipstream-$system-$arch

	temp=$(mktemp -d)
	trap 'rm -rf "$temp"' EXIT
	trap 'exit 1' HUP INT TERM
	echo "downloading $url/$name.tar.gz"
	fetch "$url/SHA256SUMS" "$temp/SHA256SUMS"
	fetch "$url/$name.tar.gz" "$temp/$name.tar.gz"
	want=$(awk -v name="$name.tar.gz" '$2 == name { print $1 }' "$temp/SHA256SUMS")
	[ -n "$want" ] || die "SHA256SUMS does not have $name.tar.gz"
	got=$(checksum "$temp/$name.tar.gz")
	[ "$got" = "$want" ] || die "the checksum of $name.tar.gz is $got, want $want; download it again"
	tar -xzf "$temp/$name.tar.gz" -C "$temp"

	mkdir -p "$folder"
	# A copy beside the program, then a rename: a running program is not disturbed, and
	# one that does not run here replaces nothing.
	new=$folder/.lipstream.new
	trap 'rm -rf "$temp" "$new"' EXIT
	cp "$temp/$name/lipstream" "$new"
	chmod 755 "$new"
	version=$("$new" --version) || die "the program does not run on this machine"
	mv -f "$new" "$folder/lipstream"
	echo "installed $folder/lipstream $version"
	case ":$PATH:" in
	*":$folder:"*) ;;
	*) echo "add $folder to your PATH" ;;
	esac
	echo "next: lipstream runtime install; lipstream doctor"
}

main "$@"
