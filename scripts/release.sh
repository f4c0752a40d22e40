#!/bin/sh
# Builds the release into dist/: an archive for each platform, an image for containers as
# an OCI layout, what is in each binary (SBOM, CycloneDX), and checksums. The same commit
# and the same Go give the same bytes; the binaries say so if it has been changed since.
#
#   scripts/release.sh VERSION [OS/ARCH …]
set -eu
cd "$(dirname "$0")/.."
version=$1
case $version in
'' | *[!0-9A-Za-z.+-]*)
	echo "release: VERSION is '$version': it must be letters, digits, '.', '+' and '-', as v1.2.3" >&2
	exit 1
	;;
esac
shift
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
commit=$(git describe --always --abbrev=40 --dirty --exclude='*')
SOURCE_DATE_EPOCH=$(git show -s --format=%ct HEAD)
export SOURCE_DATE_EPOCH
package() { [ "$1" = unilog ] && echo ./cmd/unilog || echo ./rocketrides/cmd/rocketrides; }
rm -rf dist
mkdir -p dist/tools
go build -o dist/tools/release ./internal/release
GOBIN="$PWD/dist/tools" go install "$sbom"

# This machine's own write the manual pages and completions, which are the same anywhere.
for program in unilog rocketrides; do
	sh scripts/build.sh dist/tools/$program "$version" "$commit" "$(package $program)"
	said=$(dist/tools/$program version)
	case $said in
	"$program $version, commit $commit, go"*) ;;
	*)
		echo "release: the binary says of itself: $said" >&2
		exit 1
		;;
	esac
	mkdir -p dist/tools/man dist/tools/completions
	dist/tools/$program man >dist/tools/man/$program.1
	dist/tools/$program completion bash >dist/tools/completions/$program.bash
	dist/tools/$program completion zsh >dist/tools/completions/_$program
	dist/tools/$program completion fish >dist/tools/completions/$program.fish
done

images=
for platform; do
	os=${platform%/*} arch=${platform#*/}
	name=unilog-$version-$os-$arch
	dir=dist/tools/$name
	mkdir -p "$dir"
	cp -R LICENSE README.md CHANGELOG.md dist/tools/man dist/tools/completions "$dir"
	for program in unilog rocketrides; do
		GOOS=$os GOARCH=$arch sh scripts/build.sh "$dir/$program" "$version" "$commit" "$(package $program)"
		dist/tools/cyclonedx-gomod bin -json -std -noserial -notimestamp -version "$version" -output "dist/$program-$version-$os-$arch.cdx.json" "$dir/$program" 2>dist/tools/log ||
			{ cat dist/tools/log >&2 && exit 1; }
	done
	dist/tools/release archive "dist/$name.tar.gz" "$SOURCE_DATE_EPOCH" "$dir"
	if [ "$os" = linux ]; then images="$images $platform=$dir/unilog"; fi
done
# Unquoted: no name of ours has a space.
if [ -n "$images" ]; then dist/tools/release image "dist/unilog-$version-oci.tar" "$SOURCE_DATE_EPOCH" unilog "$version" $images; fi
rm -rf dist/tools
cd dist
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi # macOS has the latter
$sum rocketrides-* unilog-* >SHA256SUMS
cat SHA256SUMS
