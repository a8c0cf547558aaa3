"""The families of networks, and what exports them, stand with the tests of graphs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "graphs"))
