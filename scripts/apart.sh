#!/bin/sh
# Runs the tests whose names match, in all packages that have some. They wait for
# servers most of the time, so those of cmd/rocketrides, which go without the race
# detector, run beside the others, whose output comes last.
#
#   scripts/apart.sh PATTERN 'GO TEST' 'GO TEST WITH THE RACE DETECTOR'
set -eu
cd "$(dirname "$0")/.."
pattern=$1 test=$2 race=$3
plain=./rocketrides/cmd/rocketrides

# The pattern is of names of tests, anchored or not.
names=$(echo "$pattern" | sed 's/^^Test//; s/|^Test/|/g')
packages=$(grep -rlE --include='*_test.go' "^func Test[A-Za-z]*($names)" . | xargs -n 1 dirname | sort -u)
raced=$(echo "$packages" | grep -vxF "$plain" | tr '\n' ' ')

set --
if [ -n "$raced" ]; then set -- "$race -run '$pattern' $raced"; fi
if echo "$packages" | grep -qxF "$plain"; then set -- "$test -run '$pattern' $plain" "$@"; fi
exec sh scripts/beside.sh "$@"
