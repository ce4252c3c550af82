#!/usr/bin/env bash
# Runs tests of package integration on other kernels than this machine's, in a
# virtual machine (qemu, software emulation: no /dev/kvm is needed):
#
#	scripts/vm.sh SUITE ARG...
#
# SUITE is the Debian release whose kernel is booted (bookworm: 6.1, trixie:
# 6.12), ARG... are what the test binary is given (-test.run PATTERN, say). The
# tests' output comes out here, and their exit code is this script's; 125: the
# machine did not get that far, the end of its console says why.
#
# Debian's packages are asked for by apt from the mirror that this machine uses.
# The kernel is only downloaded and unpacked, below .vm, and stays there. The
# machine has no disk and no network but its own loopback; it ends when the tests
# have ended, or after VM_LIMIT (seconds).
set -euo pipefail

VM_LIMIT=${VM_LIMIT:-1500}
VM_MEMORY=${VM_MEMORY:-3G}
# What the tests use. A name that is built into the kernel, or is not there, is passed over.
modules="fuse nfsv4 nfsv3 nfsd veth overlay loop"
# Programs of this machine that busybox has no equal of. Its shell takes its own
# unless they are called by their path.
programs="ip"

if [ $# -lt 1 ]; then
	echo "usage: $0 SUITE ARG..." >&2
	exit 2
fi
suite=$1
shift
cd "$(dirname "$0")/.."
cache=$PWD/.vm
dir=$cache/$suite

install_tools() {
	local missing=()
	need() { command -v "$1" >/dev/null || missing+=("$2"); }
	need qemu-system-x86_64 qemu-system-x86
	need busybox busybox-static
	need ip iproute2
	need xz xz-utils
	[ ${#missing[@]} -eq 0 ] && return
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# fetch_kernel leaves dir/kernel: what the package of the suite's current kernel
# for virtual machines has. It keeps apt's state apart from this machine's.
fetch_kernel() {
	[ -e "$dir/kernel/complete" ] && return
	local mirror package
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -1)
	[ -n "$mirror" ] || { echo "vm.sh: apt knows no mirror of Debian's main archive" >&2; exit 125; }
	rm -rf "$dir/kernel" "$dir/apt"
	mkdir -p "$dir/kernel" "$dir/apt/lists/partial" "$dir/apt/archives/partial"
	: >"$dir/apt/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$dir/apt/sources.list"
	cat >"$dir/apt/apt.conf" <<-END
		Dir::Etc::sourcelist "$dir/apt/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State "$dir/apt";
		Dir::State::status "$dir/apt/status";
		Dir::Cache "$dir/apt";
		APT::Sandbox::User "root";
	END
	(
		cd "$dir"
		export APT_CONFIG=$dir/apt/apt.conf
		apt-get update -q
		package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
		[ -n "$package" ] || { echo "vm.sh: the mirror has no kernel of $suite" >&2; exit 125; }
		apt-get download -q "$package"
		dpkg-deb -x "$package"_*.deb kernel
		rm -rf "$package"_*.deb apt
	)
	find "$dir/kernel" -name '*.ko.xz' -exec xz -d {} +
	# Since trixie, modules are below /usr.
	[ -d "$dir/kernel/lib" ] || ln -s usr/lib "$dir/kernel/lib"
	busybox depmod -b "$dir/kernel" "$(release)"
	touch "$dir/kernel/complete"
}

release() { basename "$dir"/kernel/boot/vmlinuz-* | sed 's/^vmlinuz-//'; }

# build_root leaves dir/root.gz, the machine's whole file system.
build_root() {
	local root=$dir/root program lib m at deps file
	rm -rf "$root"
	mkdir -p "$root"/{bin,sbin,etc,proc,sys,dev,tmp,run,lib64,root} "$root/lib/modules/$(release)"
	for program in $(busybox --list); do
		ln -s busybox "$root/bin/$program"
	done
	cp --remove-destination "$(command -v busybox)" "$root/bin/busybox"
	for program in $programs; do
		mkdir -p "$root$(dirname "$(command -v "$program")")"
		cp -L "$(command -v "$program")" "$root$(command -v "$program")"
		for lib in $(ldd "$(command -v "$program")" | grep -o '/[^ ]*'); do
			mkdir -p "$root$(dirname "$lib")"
			cp -L "$lib" "$root$lib"
		done
	done
	at=lib/modules/$(release)
	for m in $modules; do
		deps=$(sed -n "s,^\(.*/$m\.ko\): *,\1 ,p" "$dir/kernel/$at/modules.dep")
		[ -n "$deps" ] && echo "$m" >>"$root/etc/modules"
		for file in $deps; do
			mkdir -p "$root/$at/$(dirname "$file")"
			cp "$dir/kernel/$at/$file" "$root/$at/$file"
		done
	done
	cp "$dir/kernel/$at"/modules.{dep,alias,symbols} "$root/$at/"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
	CGO_ENABLED=0 ${GO:-go} build -trimpath -o "$root/bin/modelfs" ./cmd/modelfs
	CGO_ENABLED=0 ${GO:-go} test -c -trimpath -tags vm -o "$root/bin/integration.test" ./integration
	printf '%s\n' "$@" >"$root/etc/arguments"
	cp scripts/vm-init.sh "$root/init"
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/root.gz"
	rm -rf "$root"
}

# run_machine shows what the tests say, and ends with their exit code.
run_machine() {
	local status
	timeout --kill-after=10 "$VM_LIMIT" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m "$VM_MEMORY" \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "$dir"/kernel/boot/vmlinuz-* -initrd "$dir/root.gz" -append "console=ttyS0 panic=-1 quiet" \
		-serial "file:$dir/console" -serial stdio </dev/null | tr -d '\r' | tee "$dir/output" | sed '/^vm: tests ended with /d' || true
	status=$(sed -n 's/^vm: tests ended with //p' "$dir/output")
	if [ -z "$status" ]; then
		echo "vm.sh: the machine ended before its tests did, or had not ended after $VM_LIMIT s. Its console ends with:" >&2
		tail -40 "$dir/console" >&2
		exit 125
	fi
	exit "$status"
}

install_tools
fetch_kernel
echo "vm.sh: Linux $(release) of Debian $suite"
build_root "$@"
run_machine
