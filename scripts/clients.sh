#!/bin/sh
# Installs the programs of other people that judge modelfs and its test Hub
# into a directory:
#
#	scripts/clients.sh DIR
#
# DIR/py is a Python environment: huggingface_hub and ModelScope's client,
# which fill caches, and the engines xllamacpp (llama.cpp), safetensors and
# onnxruntime, with gguf and onnx, which write their files. DIR/js is a Node
# project with @huggingface/hub and node-llama-cpp. DIR/bin/stores writes the
# stores of Ollama and Docker Model Runner with these tools' own packages, and
# DIR/bin/llama-fetch is llama.cpp's own downloader: a main of five lines around
# the library that node-llama-cpp ships, with the headers of the sources that it
# ships, too. Nothing is done twice: once these versions are there it only
# builds bin/stores again, which go remembers. Needs python3 (3.10 or later),
# node (20 or later), npm, go, git and g++, and x86-64.
set -eu

python_clients="huggingface_hub==2.4.0 modelscope-hub==0.5.1 xllamacpp==2026.10.11549 gguf==0.19.0 safetensors==0.8.0 onnx==1.23.2 onnxruntime==1.32.0"
node_clients="@huggingface/hub@2.17.5 node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1"

if [ $# -ne 1 ]; then
	echo "usage: $0 DIR" >&2
	exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1/bin"
dir=$(cd "$1" && pwd)

(cd "$root/integration/testdata/clients/stores" && GOFLAGS=-mod=readonly ${GO:-go} build -trimpath -o "$dir/bin/stores" .)

want="$python_clients $node_clients llama-fetch $(cksum <"$root/integration/testdata/clients/llama-fetch.cpp")"
if [ -f "$dir/installed" ] && [ "$(cat "$dir/installed")" = "$want" ]; then
	exit 0
fi

python3 -m venv "$dir/py"
# shellcheck disable=SC2086 # a list
"$dir/py/bin/python" -m pip install --quiet --disable-pip-version-check $python_clients

mkdir -p "$dir/js"
[ -f "$dir/js/package.json" ] || echo '{"private": true, "type": "module"}' >"$dir/js/package.json"
# Without its scripts and options: they would fetch libraries for GPUs.
# shellcheck disable=SC2086
npm install --prefix "$dir/js" --silent --no-audit --no-fund --save-exact --ignore-scripts --omit=optional $node_clients

lib="$dir/js/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
rm -rf "$dir/llama.cpp"
git -c advice.detachedHead=false clone --quiet "$dir/js/node_modules/node-llama-cpp/llama/gitRelease.bundle" "$dir/llama.cpp"
(cd "$dir/llama.cpp" && g++ -std=c++17 -Icommon -Iinclude -Iggml/include -Ivendor "$root/integration/testdata/clients/llama-fetch.cpp" \
	-o "$dir/bin/llama-fetch" "$lib"/libllama-common.so "$lib"/libllama.*.so "$lib"/libggml.v*.so "$lib"/libggml-base.so -Wl,-rpath,"$lib")
rm -rf "$dir/llama.cpp"

echo "$want" >"$dir/installed"
echo "installed in $dir: $want"
