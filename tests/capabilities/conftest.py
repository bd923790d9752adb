"""Makes this folder's own builders importable: `import capability_cases`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
