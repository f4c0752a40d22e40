#!/bin/sh
# Makes sure that this machine has what the Makefile's targets need, and says
# nothing if it has. What is missing comes from the system's package manager,
# after asking; root, YES=1 and CI are not asked.
#
#   scripts/setup.sh [go] [servers] [compiler] [model] [matrix]
#   scripts/setup.sh browser     does not fail: what needs one can be left out
#   scripts/setup.sh kafka       nor does this
#   scripts/setup.sh languages   nor this
#   scripts/setup.sh managed     nor this
set -eu
cd "$(dirname "$0")/.."
needs=$*

die() {
	echo "setup: $*" >&2
	if [ "$needs" = browser ]; then
		echo "setup: going on without a browser: what looks at the dashboard in one is left out" >&2
		exit 0
	fi
	if [ "$needs" = kafka ]; then
		echo "setup: going on without Kafka: the log in Kafka is not tested" >&2
		exit 0
	fi
	if [ "$needs" = managed ]; then
		echo "setup: going on without PgBouncer: what runs behind a pooler is not tested" >&2
		exit 0
	fi
	if [ "$needs" = languages ]; then
		echo "setup: going on without Python or Node: the examples in other languages are not tested" >&2
		exit 0
	fi
	exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# need_go: older versions of go fetch the one that go.work names, if they may.
need_go() {
	want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.work)
	get="Go $want or newer is needed: get it from https://go.dev/dl"
	has go || die "$get"
	found=$(go env GOVERSION) || die "$get"
	minor=${found#go1.}
	[ "${minor%%[!0-9]*}" -ge "${want#1.}" ] || die "$get, and put it first in PATH ($(command -v go) is $found)"
	# go build asks git for the commit, and fails if git does not answer.
	case $(LC_ALL=C git rev-parse --git-dir 2>&1 || :) in *"dubious ownership"*)
		die "this checkout is another user's: go on as that user, or run: git config --global --add safe.directory '$PWD'" ;;
	esac
}

# bin_dirs prints the directories that may have the servers' binaries.
bin_dirs() {
	echo "$PATH" | tr : '\n'
	if has pg_config; then pg_config --bindir || :; fi
	ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		/opt/homebrew/bin /usr/local/bin 2>/dev/null || :
}

# together tells whether one directory has all the binaries named.
together() {
	bin_dirs | while IFS= read -r dir; do
		all=1
		for name; do
			if [ ! -x "$dir/$name" ]; then all=0; fi
		done
		if [ $all = 1 ]; then echo "$dir"; fi
	done | grep . >/dev/null # not -q, which would leave before the others have spoken
}

has_postgres() { together initdb postgres && together psql && together pg_dump; }

has_redis() { together redis-server redis-cli || together valkey-server valkey-cli; }

# has_compiler asks for the headers too: some systems have cc without them.
has_compiler() {
	if [ "$(uname)" = Darwin ]; then # where cc may be a stub that opens a window
		xcode-select -p >/dev/null 2>&1
	else # unquoted: CC may have arguments
		echo '#include <stdlib.h>' | { $(go env CC) -E -; } >/dev/null 2>&1
	fi
}

# has_java runs it: macOS has one that only says where to get it. Homebrew's is
# not on the PATH.
has_java() {
	PATH=/opt/homebrew/opt/openjdk/bin:/usr/local/opt/openjdk/bin:$PATH java -version >/dev/null 2>&1
}

# has_venv asks for what Debian's python3 has not, but a package of its own.
has_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

# has_pooler looks where Debian has it, which not everybody has on the PATH.
has_pooler() { has pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# has_browser runs it: Ubuntu's chromium-browser may only say where to get one.
has_browser() {
	if [ -n "${CHROME:-}" ]; then
		has "$CHROME"
		return
	fi
	for program in chromium google-chrome google-chrome-stable chrome chromium-browser \
		/Applications/Chromium.app/Contents/MacOS/Chromium \
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
		if has "$program" && "$program" --version >/dev/null 2>&1; then return; fi
	done
	false
}

# look sets what is missing, in words, and which packages that is.
look() {
	missing='' packages=''
	case " $needs " in *" servers "*)
		has_postgres || add Postgres "$postgres"
		has_redis || add Redis "$redis"
		;;
	esac
	case " $needs " in *" compiler "*)
		has_compiler || add 'a C compiler' "$compiler"
		;;
	esac
	case " $needs " in *" model "*)
		has_java || add Java "$java"
		has mvn || add Maven maven
		;;
	esac
	case " $needs " in *" matrix "*)
		has_java || add Java "$java"
		has mvn || add Maven maven
		has_venv || add 'Python with venv' "$python"
		has xz || add xz "$xz"
		;;
	esac
	case " $needs " in *" browser "*)
		has_browser || add 'a browser (Chromium or Chrome)' "$browser"
		;;
	esac
	case " $needs " in *" kafka "*)
		has_java || add Java "$java"
		has mvn || add Maven maven
		;;
	esac
	case " $needs " in *" managed "*)
		has_pooler || add PgBouncer pgbouncer
		;;
	esac
	case " $needs " in *" languages "*)
		has_venv || add 'Python with venv' "$python"
		has node || add Node "$node"
		has npm || add npm "$npm"
		;;
	esac
}

add() {
	missing="${missing:+$missing, }$1"
	packages="${packages:+$packages }$2"
}

# manager sets how to install, and what things are called here.
manager() {
	root=1 before='' postgres='' redis='' compiler='' java='' browser=chromium
	python=python3 node=nodejs npm=npm xz=xz
	if has apt-get; then
		tool=apt-get install='apt-get install' before='apt-get update'
		postgres=postgresql redis=redis-server compiler='gcc libc6-dev'
		java=default-jre-headless python=python3-venv xz=xz-utils
		# Ubuntu's is a snap, which runs neither everywhere nor with files in /tmp.
		if grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null; then browser=''; fi
	elif has brew; then
		tool=brew install='brew install' root=''
		postgres=postgresql@17 redis=redis java=openjdk browser='--cask google-chrome' node=node npm=node
	elif has dnf; then
		tool=dnf install='dnf install'
		postgres='postgresql postgresql-server' redis=valkey compiler='gcc glibc-devel'
		java='java-headless' npm=nodejs-npm
	elif has pacman; then
		tool=pacman install='pacman -S --needed'
		postgres=postgresql redis=valkey compiler=gcc java=jre-openjdk-headless python=python
	elif has apk; then
		tool=apk install='apk add'
		postgres='postgresql postgresql-client' redis=redis compiler='gcc musl-dev'
		java=openjdk21-jre-headless
	else
		tool=''
	fi
	if [ -n "$root" ] && [ "$(id -u)" != 0 ]; then sudo='sudo '; else sudo=''; fi
}

# apt leaves the packages' own services off: ours are started apart, and
# nobody asked for ports to be taken, now or after the next boot.
# shellcheck disable=SC2016
apt='
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap "rm -f $policy" EXIT
	trap "exit 1" HUP INT TERM
	printf "#!/bin/sh\nexit 101\n" >$policy
	chmod 755 $policy
fi
add() { apt-get -qy -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"; }
add "$@" || { apt-get -qy update && add "$@"; }
if [ -d /run/systemd/system ]; then
	for package; do
		case $package in postgresql | redis-server | pgbouncer) systemctl disable $package ;; esac
	done
fi
'

run_install() {
	case $tool in
	apt-get) $sudo sh -c "$apt" apt "$@" ;;
	dnf) $sudo dnf -y install "$@" ;;
	pacman) $sudo pacman -S --needed --noconfirm "$@" ;;
	*) $sudo $install "$@" ;;
	esac
}

# ask returns if the person at the terminal agrees, or need not be asked.
ask() {
	if [ "$(id -u)" = 0 ] || [ "${YES:-}" = 1 ] || [ "${CI:-false}" != false ]; then return; fi
	[ -t 0 ] || die "not found: $missing: set YES=1 to install, or run: $by_hand"
	printf 'Not found: %s. Install %s with %s? [Y/n] ' "$missing" "$packages" "$tool"
	read -r answer || answer=n
	case $answer in
	'' | [Yy] | [Yy][Ee][Ss]) ;;
	*) die "nothing was installed; to do it yourself, run: $by_hand" ;;
	esac
}

# finish gets what no package manager has.
finish() {
	case " $needs " in *" kafka "*) sh scripts/kafka.sh || die 'could not get Kafka' ;; esac
	case " $needs " in *" languages "*) sh scripts/languages.sh || die "could not get the examples' packages" ;; esac
	exit 0
}

case " $needs " in *" go "*) need_go ;; esac
manager
look
if [ -z "$missing" ]; then finish; fi

case $(uname),$missing in Darwin,*compiler*)
	die "not found: a C compiler: run 'xcode-select --install', then try again" ;;
esac
if [ -z "$tool" ]; then
	die "not found: $missing: install that and try again (on macOS, https://brew.sh helps)"
fi
if [ -z "$packages" ]; then die "not found: $missing: on Ubuntu, get Chrome's package from https://www.google.com/chrome"; fi
by_hand="${before:+$sudo$before && }$sudo$install $packages"
if [ -n "$sudo" ] && ! has sudo; then
	die "not found: $missing: as root, run: ${before:+$before && }$install $packages"
fi
ask

log=$(mktemp "${TMPDIR:-/tmp}/setup.XXXXXX")
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM
echo "Installing $packages with $tool; this may take a minute or two."
# Unquoted: package names have no spaces.
if ! run_install $packages >"$log" 2>&1; then
	tail -n 30 "$log" >&2
	die "that failed: $by_hand"
fi
look
if [ -n "$missing" ]; then die "installed $packages, but still not found: $missing"; fi
finish
