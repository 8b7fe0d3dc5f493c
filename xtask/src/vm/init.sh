#!/bin/busybox sh
# PID 1 of the guest, first half: the only program besides busybox in the initramfs.
# It makes the host's files the root (read-only below, changes go to memory), mounts what a
# container host has, and hands over to run.sh inside that root.

/bin/busybox --install -s /bin
export PATH=/bin

fail() { echo "xtask-init: $*" >/dev/console; sleep 1; echo b >/proc/sysrq-trigger; }

mkdir -p /proc /host /memory /new
mount -t proc proc /proc
mount -t devtmpfs dev /dev
if [ -f /modules.order ]; then
	while read -r module; do insmod "$module" || fail "cannot load $module"; done </modules.order
fi

. /config # sets repo=, share=, modules=

mount -t 9p -o "trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144" host /host ||
	fail "cannot mount the host's files"
mount -t tmpfs -o size=80% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /new ||
	fail "cannot mount the root"

mount --move /dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm /new/dev/net /new/dev/mqueue
mount -t devpts -o gid=5,mode=620 devpts /new/dev/pts
mount -t tmpfs shm /new/dev/shm
mount -t mqueue mqueue /new/dev/mqueue
ln -sf pts/ptmx /new/dev/ptmx
for fd in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${fd%:*}" "/new/dev/${fd#*:}"; done
ln -sfn /proc/self/fd /new/dev/fd
# udev would make these; opening one loads its module.
[ -e /new/dev/fuse ] || mknod -m 666 /new/dev/fuse c 10 229
[ -e /new/dev/net/tun ] || mknod -m 666 /new/dev/net/tun c 10 200
[ -e /new/dev/loop-control ] || mknod -m 660 /new/dev/loop-control c 10 237

mount --move /proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t securityfs securityfs /new/sys/kernel/security
mount -t debugfs debugfs /new/sys/kernel/debug
mount -t tracefs tracefs /new/sys/kernel/tracing
mount -t bpf bpf /new/sys/fs/bpf
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /new/sys/fs/cgroup
for controller in $(cat /new/sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/new/sys/fs/cgroup/cgroup.subtree_control
done

for folder in /tmp /run /var/tmp; do
	mkdir -p "/new$folder"
	mount -t tmpfs -o mode=1777 tmpfs "/new$folder"
done
chmod 755 /new/run
mkdir -p /new/run/lock /new/run/xtask
# The memory file systems above may have hidden the repository.
if [ ! -e "/new$repo" ]; then
	mkdir -p "/new$repo"
	mount --bind "/host$repo" "/new$repo"
fi
if [ -n "$share" ]; then
	mkdir -p "/new$share"
	mount -t 9p -o "trans=virtio,version=9p2000.L,cache=none,msize=262144" share "/new$share" ||
		fail "cannot mount $share"
fi
# With these in place the kernel loads on demand whatever else it has as a module.
if [ -n "$modules" ]; then
	mkdir -p /new/lib/modules
	mount --bind "/host$modules" /new/lib/modules
fi

ifconfig lo up
hostname injector-vm
cp /run.sh /command.sh /new/run/xtask/
exec switch_root /new /bin/sh /run/xtask/run.sh
fail "cannot start the second half"
