#!/usr/bin/env bash
# Installs the Debian packages that the tests need, and only those that are
# missing. Where everything is there it does nothing and needs no network.
#   fusermount3  fuse3      mounting as an ordinary user, and unmounting by hand
#   gcc          gcc        the race detector
#   rsync, tar   the tools whose view of a cold model is tested
#   python3, node, npm, git, g++   the clients that judge modelfs and the test Hub (scripts/clients.sh)
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need fusermount3 fuse3
need gcc gcc
need rsync rsync
need tar tar
need python3 python3-venv
need node nodejs
need npm npm
need git git
need g++ g++
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)

if [ ${#missing[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || { echo "deps.sh: install ${missing[*]} and try again" >&2; exit 1; }
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
