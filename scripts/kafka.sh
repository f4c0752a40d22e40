#!/bin/sh
# Gets Kafka's jars for the tests, once, with Maven. Says nothing if they are
# there already.
set -eu

version=4.4.0
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/unilog
jars=$cache/kafka-$version
if [ -d "$jars" ]; then exit 0; fi

mkdir -p "$cache"
temp=$(mktemp -d "$cache/kafka.XXXXXX")
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat >"$temp/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>none</groupId>
  <artifactId>none</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
POM
echo "Getting Kafka $version with Maven; this may take a minute or two."
if ! mvn -q -B -f "$temp/pom.xml" "$plugin:copy-dependencies" -DincludeScope=runtime \
	-DoutputDirectory="$temp/jars" >"$temp/log" 2>&1; then
	echo "kafka: Maven could not get it: $(grep -m 1 . "$temp/log")" >&2
	exit 1
fi
# Another run may have been faster: into a directory that is there, mv would move.
[ -d "$jars" ] || mv "$temp/jars" "$jars"
