#!/bin/sh
# Tidies the modules of this repository. They need each other in the version that is
# released next, which go mod tidy cannot know yet: it looks into the working copy
# instead, by replacements that no go.mod keeps.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
module=github.com/rocketrides/unilog

for dir in . cmd/unilog rocketrides; do
	cd "$root/$dir"
	for other in "" /cmd/unilog /rocketrides; do
		if [ ".${other}" != ".${dir#.}" ] && [ "$other" != "/$dir" ]; then
			go mod edit -replace "$module$other=$root$other"
		fi
	done
	failed=0
	GOWORK=off go mod tidy || failed=1
	for other in "" /cmd/unilog /rocketrides; do
		go mod edit -dropreplace "$module$other"
	done
	[ $failed = 0 ] || exit 1
done

# These have their replacements in go.mod.
for dir in examples/receipts examples/drivers peers; do
	(cd "$root/$dir" && GOWORK=off go mod tidy)
done
