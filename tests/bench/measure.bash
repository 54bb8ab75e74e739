# What the parts of the bench share: taking times of a command and stating them. Sourced.

runs=10
work=$(mktemp -d)

# Microseconds of this machine's clock that a command takes.
microseconds() {
    local begin=${EPOCHREALTIME/./}
    "$@" </dev/null >/dev/null 2>&1 || { echo "bench: failed with $?: $*" >&2; return 1; }
    echo $((${EPOCHREALTIME/./} - begin))
}

# The median of numbers on stdin, one a line, in milliseconds.
median() { sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2000 }'; }

# Takes a command's times into $work/times.
take() {
    local run
    # The first run of each finds nothing in the page cache.
    microseconds "$@" >/dev/null
    for ((run = 0; run < runs; run++)); do microseconds "$@"; done > "$work/times"
}

measure() {
    local name=$1
    shift
    take "$@"
    printf '%-44s %8.1f ms   (%s)\n' "$name" "$(median < "$work/times")" \
        "$(sort -n "$work/times" | awk '{ printf "%s%.0f", (NR > 1 ? " " : ""), $1 / 1000 }')"
}

microvm() { bulkhead run --rm --cpus 1 --memory 256m "$@"; }
