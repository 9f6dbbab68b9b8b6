"""What every measurement of a checkpoint does with its figures."""

import argparse
import json
from pathlib import Path
from typing import Any


def make_parser(description: str | None, checkpoint: Path) -> argparse.ArgumentParser:
    """A parser that asks which checkpoint is meant; the shipped one by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint)
    return parser


def report(figures: dict[str, Any], checkpoint: Path, bars: str, *, passed: bool) -> int:
    """Print the figures and write them beside the weights; the exit status, 1 where they stay under the bars."""
    text = json.dumps(figures, indent=2)
    print(text)
    (checkpoint / "figures.json").write_text(text + "\n")
    print("reaches the bars" if passed else f"UNDER THE BARS: {bars}")
    return 0 if passed else 1
