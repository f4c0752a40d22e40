#!/bin/sh
# Tags a version of all modules in lock-step, after it has seen that they can be had
# from the tags alone: the command by go install, and the library by another module.
#
#   scripts/tag.sh VERSION        tags the commit that it makes, to be pushed
#   scripts/tag.sh VERSION check  leaves everything as it is
set -eu
cd "$(dirname "$0")/.."
version=$1 only=${2:-} root=$PWD
module=github.com/rocketrides/unilog
if ! echo "$version" | grep -Eqx 'v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?'; then
	echo "tag: VERSION is '$version': it must be like v1.2.3" >&2
	exit 1
fi
if [ -n "$(git status --porcelain)" ] && [ "$only" != check ]; then
	echo "tag: commit your changes first: what is tagged is what is committed" >&2
	exit 1
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/tag.XXXXXX")
cache=$(go env GOMODCACHE)
# forget removes the version from go's cache, which would keep it for ever.
forget() {
	chmod -R u+w "$cache/github.com/rocketrides/unilog@$version" "$cache/$module/"*"@$version" "$cache/$module/cmd/"*"@$version" || :
	rm -rf "$cache/github.com/rocketrides/unilog@$version" "$cache/$module/"*"@$version" "$cache/$module/cmd/"*"@$version"
	find "$cache/cache/download/$module" -path "*/@v/$version.*" -exec rm -f {} + || :
} 2>/dev/null
trap 'forget; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# A clone, so that nothing is left behind by a version that fails.
git clone -q "$root" "$tmp/clone"
cd "$tmp/clone"
git config user.name "$(git -C "$root" config user.name || echo release)"
git config user.email "$(git -C "$root" config user.email || echo release@localhost)"
for dir in cmd/unilog rocketrides; do
	(cd $dir && go mod edit -require "$module@$version")
done
(cd rocketrides && go mod edit -require "$module/cmd/unilog@$version")
sed "s/ v[^ ]* => / $version => /" go.work >"$tmp/go.work"
cp "$tmp/go.work" go.work
git commit -qam "Release $version"
for tag in "$version" "cmd/unilog/$version" "rocketrides/$version"; do
	git tag "$tag"
done

# The clone stands for what will be published.
forget
export GOPRIVATE=$module GOFLAGS=-mod=mod GOWORK=off
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$tmp/clone.insteadOf" GIT_CONFIG_VALUE_0="https://$module"
quietly() { "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2 && exit 1; }; }
GOBIN="$tmp/bin" quietly go install "$module/cmd/unilog@$version"
"$tmp/bin/unilog" version | grep -F "$version"
mkdir "$tmp/service"
cd "$tmp/service"
quietly go mod init example.com/service
printf 'package main\n\nimport _ "%s/streamer"\n\nfunc main() {}\n' "$module" >main.go
quietly go get "$module@$version"
quietly go build -o /dev/null .
echo "tag: $version can be had: go install $module/cmd/unilog@$version"
[ "$only" != check ] || exit 0

cd "$root"
git pull -q --ff-only --tags "$tmp/clone" HEAD
echo "tag: push it: git push origin HEAD $version cmd/unilog/$version rocketrides/$version"
