# What is stated of numbers that were taken several times.
def median: sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2;
# How a list of microseconds is kept: in milliseconds, in the order taken.
def spread: map(. / 1000) | {median_ms: median, min_ms: min, max_ms: max, runs_ms: .};
