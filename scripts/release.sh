#!/bin/sh
# Cross-compiles the release into dist/, with checksums.
#
#   scripts/release.sh VERSION
set -eu
cd "$(dirname "$0")/.."
version=$1
case $version in
'' | *[!0-9A-Za-z.+-]*)
	echo "release: VERSION is '$version': it must be letters, digits, '.', '+' and '-', as v1.2.3" >&2
	exit 1
	;;
esac
commit=$(git rev-parse HEAD)
rm -rf dist
mkdir dist
for os in linux darwin; do
	for arch in amd64 arm64; do
		GOOS=$os GOARCH=$arch sh scripts/build.sh "dist/unilog-$version-$os-$arch" "$version" "$commit" ./cmd/unilog
		GOOS=$os GOARCH=$arch sh scripts/build.sh "dist/rocketrides-$version-$os-$arch" "$version" "$commit"
	done
done
cd dist
for program in unilog rocketrides; do
	stamped=$("./$program-$version-$(go env GOHOSTOS)-$(go env GOHOSTARCH)" version)
	case $stamped in
	"$program $version, commit $commit, go"*) ;;
	*)
		echo "release: the binary says of itself: $stamped" >&2
		exit 1
		;;
	esac
done
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi # macOS has the latter
$sum unilog-* rocketrides-* >SHA256SUMS
cat SHA256SUMS
