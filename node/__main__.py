"""The entry point of `python -m node`.

It runs the `sealspace` command line.
"""

import sys

from sealspace.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
