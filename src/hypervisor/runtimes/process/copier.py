"""The copier: the shell script that writes the output of a workload, and bounds it on disk without a server.

The workload's stdout and stderr are one pipe, as in a container. It may open them again, truncate them or
write to both: nothing is lost, overwritten or reordered.
"""

from __future__ import annotations

from hypervisor.runtimes.process.log_files import LogLimits

_BLOCK = 64 * 1024
"""The most bytes that are read and written at once."""

# Copy standard input to log-1, log-2, ... of $2 blocks of $1 bytes, until no process has the pipe open. Only
# the newest $3 files stay. `dd` reads and writes unbuffered, and ends after `room` reads; fewer records mean
# the end. Output that cannot be stored (a full disk) is discarded: a workload must not block or die of it.
FUNCTIONS = """\
lost='[hypervisor: output is missing here, because the log could not be written]'
note() { printf '\\n%s\\n' "$lost" >>"log-$number"; }
has_read() {
    records=${records%% records in*}
    [ $((${records##*[!0-9+]})) -eq "$1" ]
}
discard() {
    while records=$(dd bs="$1" count=1 2>&1 >/dev/null) || exec cat >/dev/null; has_read 1; do
        note && return
    done
    note
    exit
}
copy() {
    number=1 room=$2
    while :; do
        if records=$(dd bs="$1" count="$room" 2>&1 >>"log-$number"); then
            has_read "$room" || exit
        else
            discard "$1"
        fi
        room=$(($2 - ($(wc -c <"log-$number") + $1 - 1) / $1))
        if [ "$room" -lt $(($2 / 4)) ]; then
            room=$2 number=$((number + 1))
            rm -f "log-$((number - $3))"
        fi
    done
}
"""


def copy_arguments(limits: LogLimits) -> list[str]:
    """The arguments of `copy`: bytes of a block, blocks of a file, number of files."""
    block = min(_BLOCK, max(1, limits.max_bytes // 4))
    return [str(number) for number in (block, max(4, limits.max_bytes // block), limits.files)]
