# What the parts of the bench share: taking times of a command, and stating them. Sourced.

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
runs=${BENCH_RUNS:-10}
# shellcheck disable=SC2034  # where parts leave their JSON
out=${BENCH_OUT:-/out}
work=$(mktemp -d)

# Microseconds of this machine's clock that a command takes. What it complains of is left in $work/err.
microseconds() {
    local begin=${EPOCHREALTIME/./} status=0
    "$@" </dev/null >/dev/null 2>"$work/err" || status=$?
    ((status == 0)) || { [[ -s $work/err ]] || echo "status $status" > "$work/err"; return 1; }
    echo $((${EPOCHREALTIME/./} - begin))
}

# Why the last command failed, in a line.
reason() { tail -n 1 "$work/err" | cut -c 1-200; }

# Takes a command's times into $work/times.
take() {
    local run=0 failed=0 time
    : > "$work/times"
    while ((run <= runs)); do
        # The lab's emulator now and then fails a guest: such a run is made up for by another.
        time=$(microseconds "$@") || { ((++failed < 4)) || return 1; continue; }
        # The first run of each finds nothing in the page cache.
        ((run == 0)) || echo "$time" >> "$work/times"
        run=$((run + 1))
    done
    echo "$failed" > "$work/failed"
}

# within TIMES SLICE COMMAND: ends the command, with all that it started, if it is not done after so many times so many
# seconds. While the lab waits for a disk its clock leaps to the next timer, so that a single long sleep may be over at
# once; but many short ones would show in a time that is taken.
within() {
    local times=$1 slice=$2 job watch status=0
    shift 2
    set -m
    # Monitoring would give each process below a group of its own.
    { set +m; "$@"; } </dev/null &
    job=$!
    {
        for ((; times > 0; times--)); do sleep "$slice"; done
        echo 'not done in time' > "$work/err"
        kill -KILL -- "-$job"
    } 2>/dev/null &
    watch=$!
    set +m
    wait "$job" 2>/dev/null || status=$?
    kill -- "-$watch" 2>/dev/null || true
    wait "$watch" 2>/dev/null || true
    return "$status"
}

# The median of numbers on stdin, one a line, in milliseconds.
median() { jq -L "$here" -s 'include "stats"; median / 1000'; }

# KiB in use, the page cache included.
used() { awk '/^MemTotal/ { total = $2 } /^MemFree/ { print total - $2 }' /proc/meminfo; }
drop_cache() { sync; echo 3 > /proc/sys/vm/drop_caches; }

microvm() { bulkhead run --rm --cpus 1 --memory 256m "$@"; }
# Without a template to go on from.
booted() { BULKHEAD_TEMPLATES=off microvm "$@"; }
