"""Writes openapi.json, the document of the REST routes, into the current folder: `pilotlight openapi`.

python gen_openapi.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# this folder goes: it has a bench.py, which would be found before the package of that name
sys.path[:] = [str(HERE.parent), *(folder for folder in sys.path if Path(folder).resolve() != HERE)]

from platforms.container.openapi import document  # noqa: E402 found by the path that was just made

Path("openapi.json").write_text(document())
