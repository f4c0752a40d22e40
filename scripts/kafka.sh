#!/bin/sh
# Gets Kafka's jars for the tests and the bench, once, with Maven. Says nothing if
# they are there already.
#
#   scripts/kafka.sh [VERSION]
set -eu

version=${1:-4.4.0}
# Of the tools only kafka-producer-perf-test is used. They come out later.
case $version in 4.4.0) tools=4.3.1 ;; *) tools=$version ;; esac
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/unilog
jars=$cache/kafka-$version
last=kafka-tools-$tools.jar
if [ -f "$jars/$last" ]; then exit 0; fi

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
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>$tools</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
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
if ! mvn -q -B -C -f "$temp/pom.xml" "$plugin:copy-dependencies" -DincludeScope=runtime \
	-DoutputDirectory="$temp/jars" >"$temp/log" 2>&1; then
	echo "kafka: Maven could not get it: $(grep -m 1 . "$temp/log")" >&2
	exit 1
fi
# Another run may be doing the same. That all are there the last one says.
mkdir -p "$jars"
for jar in "$temp"/jars/*.jar; do
	if [ "$jar" != "$temp/jars/$last" ]; then mv "$jar" "$jars"; fi
done
mv "$temp/jars/$last" "$jars"
