#!/bin/sh
# Checks the format and the code of what has changed since a revision, and runs its
# tests. Without a revision that is the last commit, or what it has changed itself if
# nothing has since.
#
#   scripts/check.sh REVISION GOFUMPT STATICCHECK TEST
#
# The last three are commands of the Makefile's.
set -eu
cd "$(dirname "$0")/.."
since=$1 gofumpt=$2 staticcheck=$3 test=$4
if [ -z "$since" ]; then
	since=HEAD
	if [ -z "$(git status --porcelain)" ]; then since=HEAD~1; fi
fi

# with runs a command with more arguments.
with() {
	command=$1
	shift
	sh -c "$command \"\$@\"" sh "$@"
}

# changed prints the files that there are, in this module.
changed() {
	{
		git diff --name-only --diff-filter=d "$since"
		git ls-files --others --exclude-standard
	} | sort -u | grep -v -e '^deploy/prometheus/' -e '^examples/receipts/' -e '^examples/drivers/' -e '^peers/'
}

# packages prints the Go packages that files belong to: embedded ones lie below theirs,
# and tests of the root look at the documents.
packages() {
	while IFS= read -r file; do
		dir=$(dirname "$file")
		while [ "$dir" != . ] && ! ls "$dir"/*.go >/dev/null 2>&1; do dir=$(dirname "$dir"); done
		if [ "$dir" != . ]; then
			echo "./$dir"
		elif [ "${file%.go}" != "$file" ] || [ "${file%.md}" != "$file" ]; then
			echo .
		fi
	done | sort -u
}

files=$(changed | grep '\.go$' || :)
dirs=$(changed | packages)
if [ -z "$dirs" ]; then
	echo "check: no Go code and no document has changed since $since"
	exit 0
fi
# Unquoted: no file of ours has a space in its name.
if [ -n "$files" ]; then
	wrong=$(with "$gofumpt -l" $files)
	if [ -n "$wrong" ]; then
		echo "not formatted (run make fmt):" >&2
		echo "$wrong" >&2
		exit 1
	fi
fi
go vet ./... ./cmd/unilog/... ./rocketrides/...
with "$staticcheck" $dirs
with "$test" $dirs
