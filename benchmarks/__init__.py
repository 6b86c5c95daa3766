"""Speed and memory of the layers: `python -m benchmarks --help`."""
