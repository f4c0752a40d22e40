#!/bin/sh
# Builds one static binary with its version in it, the same bytes each time, for
# the GOOS and GOARCH of the environment.
#
#   scripts/build.sh FILE VERSION COMMIT [PACKAGE]
set -eu
cd "$(dirname "$0")/.."
package=github.com/rocketrides/unilog/internal/version
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$1" \
	-ldflags "-s -w -X $package.release=$2 -X $package.commit=$3" "${4:-./rocketrides/cmd/rocketrides}"
