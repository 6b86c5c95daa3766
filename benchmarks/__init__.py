"""Speed and memory of the layers: `python -m benchmarks --help`."""


class BenchmarkError(Exception):
    """What was asked for cannot be had; the message says why."""
