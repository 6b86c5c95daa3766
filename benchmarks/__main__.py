"""`python -m benchmarks`."""

import sys

from benchmarks.cli import main, start_over_in_environment

if __name__ == "__main__":
    start_over_in_environment()
    sys.exit(main())
