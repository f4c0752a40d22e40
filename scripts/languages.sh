#!/bin/sh
# Gets what the examples in Python and Node need, for the tests, once for each of their
# lists. Says nothing if it is there already.
set -eu
cd "$(dirname "$0")/.."

dir=${XDG_CACHE_HOME:-$HOME/.cache}/unilog/languages
python=examples/python/requirements.txt node=examples/node/package-lock.json

mkdir -p "$dir"
log=$(mktemp "$dir/log.XXXXXX")
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT PIPE TERM

# get runs what makes a directory, which then has a copy of its list.
get() {
	what=$1 list=$2
	if cmp -s "$list" "$dir/$what/list"; then return; fi
	echo "Getting the examples' packages for $what; this may take a minute."
	rm -rf "${dir:?}/$what"
	mkdir "$dir/$what"
	if ! "get_$what" >"$log" 2>&1; then
		echo "languages: could not get the packages for $what: $(grep . "$log" | tail -n 1)" >&2
		exit 1
	fi
	cp "$list" "$dir/$what/list"
}

get_python() {
	python3 -m venv "$dir/python" &&
		"$dir/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$python"
}

get_node() {
	cp examples/node/package.json "$node" "$dir/node" &&
		npm --prefix "$dir/node" ci --no-audit --no-fund --ignore-scripts
}

get python "$python"
get node "$node"
