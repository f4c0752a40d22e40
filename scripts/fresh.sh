#!/bin/sh
# Makes a minimal Debian and runs `make run`, twice, and `make test` in it as an ordinary
# user would: nothing is installed but make, git, sudo and Go, nobody else can enter the
# home, the path has a space, and the environment is empty, but for YES=1. It runs what is
# committed.
#
#   scripts/fresh.sh 12|13 [COMMAND]
#
# Needs root, debootstrap, and 8 GB where TMPDIR is. AS=root runs it as root. CA names a
# file with a certificate to trust, for a network that asks for one.
set -eu
cd "$(dirname "$0")/.."

die() {
	echo "fresh: $*" >&2
	exit 1
}

case ${1:-} in
12) suite=bookworm ;;
13) suite=trixie ;;
*) die 'usage: scripts/fresh.sh 12|13 [COMMAND]' ;;
esac
as=${AS:-rider} path=/usr/local/bin:/usr/bin:/bin
if [ "$as" = root ]; then path=/usr/local/sbin:/usr/sbin:/sbin:$path; fi
command=${2:-'try make run ARGS="--for 10s"; try make run ARGS="--for 10s"; try make test'}
[ "$(id -u)" = 0 ] || die "only root can make a Debian: run it with sudo"
for program in debootstrap unshare setpriv git go; do
	command -v $program >/dev/null || die "not found: $program"
done
[ -z "$(git status --porcelain)" ] || echo "fresh: what is not committed is left out" >&2

root=$(mktemp -d "${TMPDIR:-/var/tmp}/fresh.XXXXXX")
# What is mounted there is so for the inner shell alone, and goes with it.
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$root"
unset TMPDIR # there is none in there
export PATH="$PATH:/usr/sbin:/sbin"
echo "Making a Debian $1 in $root; this takes some minutes."
debootstrap --variant=minbase --include=make,git,ca-certificates,sudo $suite "$root" >"$root/log" 2>&1 ||
	die "debootstrap failed: $(tail -n 1 "$root/log")"
cp -a "$(go env GOROOT)" "$root/usr/local/go"
if [ -n "${CA:-}" ]; then
	cp "$CA" "$root/usr/local/share/ca-certificates/outside.crt"
	chroot "$root" update-ca-certificates >"$root/log" 2>&1 || die "$CA: $(tail -n 1 "$root/log")"
fi
chroot "$root" useradd -m -u 4711 -s /bin/bash rider
echo 'rider ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/rider"
home=$(chroot "$root" sh -c "echo ~$as")
chmod 700 "$root$home"
git clone -q . "$root$home/my code/unilog"
chroot "$root" chown -R "$as:" "$home"

cat >"$root/try" <<'TRY'
try() {
	begin=$(date +%s) ended=0
	"$@" || ended=$?
	echo "fresh: $*: ended with $ended after $(($(date +%s) - begin)) s"
	[ $ended = 0 ] || failed=1
}
failed=0
cd ~/'my code/unilog'
eval "$1"
exit $failed
TRY

# In mounts and processes of its own, all of which end with it.
export root as path home command
unshare --mount --propagation private --pid --fork --kill-child sh -ec '
	mount -t proc proc "$root/proc"
	for device in null zero full random urandom tty; do
		touch "$root/dev/$device"
		mount --bind /dev/$device "$root/dev/$device"
	done
	mkdir -p "$root/dev/shm" "$root/dev/pts"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	ln -sf pts/ptmx "$root/dev/ptmx"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	exec chroot "$root" setpriv --reuid "$as" --regid "$as" --init-groups \
		env -i HOME="$home" USER="$as" LOGNAME="$as" YES=1 PATH="$path" sh /try "$command"'
