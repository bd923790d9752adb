"""List the files of a wheel, as a release attests them for `sealspace version --verify`.

Example:
    python tools/wheel_records.py dist/sealspace-0.1.0-py3-none-any.whl > dist/sealspace-files.txt
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from sealspace.cli.version import file_records


def main(wheel: str) -> None:
    """Print the records of a wheel's files, one each line."""
    with TemporaryDirectory() as folder, ZipFile(wheel) as archive:
        archive.extractall(folder)
        print(file_records(Path(folder)), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
