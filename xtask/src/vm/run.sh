# PID 1 of the guest, second half: runs the command with the host's programs and reports its
# exit status. This runs in the host's /bin/sh.

cd /run/xtask
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh TERM=dumb LANG=C.UTF-8

# The ports appear some time after their driver was loaded.
until set -- /dev/vport*p2 && [ -c "$1" ]; do sleep 0.02; done
port=${1%2}
# The command writes to a pipe and not to the port, because the port cannot be opened twice:
# a program that opens /dev/stdout would fail.
mkfifo out
cat out >"${port}1" &
reader=$!
setsid --wait /bin/sh /run/xtask/command.sh </dev/null >out 2>&1
status=$?
# Processes that the command left behind hold the pipe open: do not wait for those for long.
for _ in 1 2 3 4 5 6 7 8 9 10; do
	kill -0 $reader 2>/dev/null || break
	sleep 0.1
done
echo "status=$status" >"${port}2"
# The host ends the machine when it sees the status; this is for the case that it does not.
sleep 5
echo o >/proc/sysrq-trigger
sleep 60
