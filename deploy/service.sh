#!/bin/sh
# Writes what a service of your own deploys, from what Rocket Rides does: units for
# its streamer, its migrations, its deliverers and its consumers, the users of its Redis,
# and alerts. Its consumers are its own program; the others, the command unilog. The alerts about Rocket Rides' api are left out.
#
#   deploy/service.sh NAME DIR
set -eu
if ! echo "${1:-}" | grep -Eqx '[a-z][a-z0-9]*' || [ $# != 2 ]; then
	echo "usage: deploy/service.sh NAME DIR: NAME is of a to z and 0 to 9, such as orders" >&2
	exit 2
fi
name=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
cd "$(dirname "$0")"
title=$(printf %s "$name" | cut -c1 | tr a-z A-Z)$(printf %s "$name" | cut -c2-)

# renamed prints a file with the service's names. Runbooks are the ones of here.
renamed() {
	sed -e '/runbook:/b' -e "s/rocket-rides-log/$name-log/g; s/RocketRides/$title/g; s/Rocket Rides/$title/g; s/rocketrides/$name/g" "$1"
}

mkdir -p "$dir/systemd/$name-.service.d" "$dir/redis" "$dir/prometheus"
renamed systemd/rocketrides-.service.d/common.conf >"$dir/systemd/$name-.service.d/common.conf"
renamed systemd/rocketrides-consumer@.service >"$dir/systemd/$name-consumer@.service"
renamed systemd/rocketrides.env | grep -v '^API_' >"$dir/systemd/$name.env"
for unit in streamer migrate deliver@; do
	renamed "systemd/rocketrides-$unit.service" | sed "s|/usr/local/bin/$name |/usr/local/bin/unilog |" >"$dir/systemd/$name-$unit.service"
done
renamed redis/users.acl >"$dir/redis/users.acl"
# A group without alerts is left out, too.
awk '
	function flush() { if (block != "" && block !~ /rocketrides_/) { printf "%s%s", group, block; group = "" } block = "" }
	/^  - name:/ { flush(); group = ""; inGroup = 1 }
	/^      - alert:/ { flush(); block = $0 "\n"; next }
	block != "" { block = block $0 "\n"; next }
	inGroup { group = group $0 "\n"; next }
	{ print }
	END { flush() }
' prometheus/alerts.yaml >"$dir/prometheus/alerts.yaml.all"
renamed "$dir/prometheus/alerts.yaml.all" >"$dir/prometheus/alerts.yaml"
rm "$dir/prometheus/alerts.yaml.all"
