#!/bin/sh
# Installs the Hub clients that judge internal/hubtest into a directory:
#
#	scripts/clients.sh DIR
#
# DIR/py is a Python environment with huggingface_hub, DIR/js a Node project
# with @huggingface/hub. Running it again does nothing once these versions are
# there. Needs python3 (3.10 or later), node (18 or later) and npm.
set -eu

python_client=2.4.0
node_client=2.17.5

if [ $# -ne 1 ]; then
	echo "usage: $0 DIR" >&2
	exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
want="huggingface_hub $python_client, @huggingface/hub $node_client"
if [ -f "$dir/installed" ] && [ "$(cat "$dir/installed")" = "$want" ]; then
	exit 0
fi

python3 -m venv "$dir/py"
"$dir/py/bin/python" -m pip install --quiet --disable-pip-version-check "huggingface_hub==$python_client"

mkdir -p "$dir/js"
[ -f "$dir/js/package.json" ] || echo '{"private": true, "type": "module"}' >"$dir/js/package.json"
npm install --prefix "$dir/js" --silent --no-audit --no-fund --save-exact "@huggingface/hub@$node_client"

echo "$want" >"$dir/installed"
echo "installed in $dir: $want"
