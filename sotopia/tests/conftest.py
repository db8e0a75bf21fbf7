"""Settings of all tests of the sampling package, whose helpers lie beside the tests."""

import sys
from pathlib import Path

from hypothesis import settings


sys.path[:0] = [str(Path(__file__).parent / name) for name in ("unit", "process")]
# A loaded machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
