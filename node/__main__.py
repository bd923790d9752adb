"""`python -m node`: the same command line as `sealspace`."""

import sys

from sealspace.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
