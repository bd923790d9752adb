"""Makes this folder's modules importable as they are when the benchmark runs as a script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
