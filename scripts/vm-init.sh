#!/bin/sh
# The first process of the machine that scripts/vm.sh boots: runs the tests on
# the second serial line and switches the machine off.
export PATH=/bin:/sbin HOME=/root TMPDIR=/tmp MODELFS_IT_BINARY=/bin/modelfs
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
chmod 1777 /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
while read -r module; do
	modprobe "$module" || echo "init: no module $module"
done </etc/modules
mount -t fusectl fusectl /sys/fs/fuse/connections
ip link set lo up
stty -opost </dev/ttyS1
# What the kernel kills a test's process for is worth reading.
dmesg -n 4

set --
while read -r argument; do
	set -- "$@" "$argument"
done </etc/arguments
cd /tmp || exit
integration.test "$@" >/dev/ttyS1 2>&1 </dev/null
echo "vm: tests ended with $?" >/dev/ttyS1
sync
poweroff -f
