#!/bin/sh
# Runs a command, and beside it others, one after the other, whose output comes last.
# One that fails hides no other. Whoever ends it, as by Ctrl-C, ends them all: those in the
# background would go on, since the shell lets them ignore that.
#
#   scripts/beside.sh COMMAND OTHER...
set -u

command=$1
shift
out=$(mktemp "${TMPDIR:-/tmp}/beside.XXXXXX") || exit 1
trap 'rm -f "$out"' EXIT
trap 'trap "" TERM; kill 0; exit 1' HUP INT TERM
(
	failed=0
	for other; do sh -c "$other" || failed=1; done
	exit $failed
) >"$out" 2>&1 &
pid=$!
failed=0
sh -c "$command" || failed=1
wait "$pid" || failed=1
cat "$out"
exit $failed
