#!/bin/sh
# Compares the library's Go API with that of a revision, the last tag if none is given.
# An incompatible change fails, unless the part [Unreleased] of CHANGELOG.md names what has
# changed: docs/stability.md says what may change, and this sees that users are told.
#
#   scripts/apidiff.sh [REVISION]
set -eu
cd "$(dirname "$0")/.."
apidiff=golang.org/x/exp/cmd/apidiff@v0.0.0-20261113113407-e3970619a1a4
module=github.com/rocketrides/unilog
since=${1:-$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || :)}
if [ -z "$since" ]; then
	echo 'apidiff: no version is tagged yet, so there is no API to keep to'
	exit 0
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/apidiff.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
export GOWORK=off
GOBIN="$tmp" go install "$apidiff"
mkdir "$tmp/before"
git archive "$since" | tar -xf - -C "$tmp/before"
# It says of each internal package that it leaves that out.
write() { "$tmp/apidiff" -m -w "$1" "$module" 2>"$tmp/log" || { cat "$tmp/log" >&2 && exit 1; }; }
(cd "$tmp/before" && write "$tmp/before.export")
write "$tmp/now.export"
"$tmp/apidiff" -m -incompatible "$tmp/before.export" "$tmp/now.export" >"$tmp/changes" 2>"$tmp/log" || { cat "$tmp/log" >&2 && exit 1; }
sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/p' CHANGELOG.md >"$tmp/unreleased"

untold=0
while IFS= read -r line; do
	case $line in '- '*) ;; *) continue ;; esac
	# ./streamer.(*Streamer).Ready: removed, ./consumer.Config.Only: changed from …
	name=$(echo "${line#- }" | sed 's/: .*//; s/[(*)]//g; s/.*\.\([^.]*\.[^.]*\)$/\1/; s/.*\///')
	if grep -qwF -- "$name" "$tmp/unreleased"; then
		echo "told of in CHANGELOG.md: $line"
	else
		echo "$line" >&2
		untold=1
	fi
done <"$tmp/changes"
if [ $untold = 1 ]; then
	echo "apidiff: these break who uses $since: take them back, or name each in CHANGELOG.md, under [Unreleased]" >&2
	exit 1
fi
echo "apidiff: nothing that $since had breaks without a word in CHANGELOG.md"
