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
raced=$(echo "$packages" | grep -vxF "$plain" || :)

out=$(mktemp "${TMPDIR:-/tmp}/tests.XXXXXX")
trap 'rm -f "$out"' EXIT
trap 'exit 1' HUP INT TERM
failed=0 pid=''
# Unquoted: commands of several words, and packages.
if [ -n "$raced" ]; then
	env $race -run "$pattern" $raced >"$out" 2>&1 &
	pid=$!
fi
if echo "$packages" | grep -qxF "$plain"; then
	$test -run "$pattern" $plain || failed=1
fi
if [ -n "$pid" ]; then
	wait "$pid" || failed=1
	cat "$out"
fi
exit $failed
