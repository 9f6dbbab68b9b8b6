"""The options that every training script has."""

import argparse
from pathlib import Path


def make_parser(description: str | None, *, resume: str) -> argparse.ArgumentParser:
    """A parser with what all scripts take; `resume` says in words what one can go on from."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--resume", type=Path, help=resume)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="changes the last bits of the result")
    return parser


def add_budget(parser: argparse.ArgumentParser, *, minutes: float, stage: str = "") -> None:
    """How long to train, for a `Budget`: `--minutes` and `--steps`, or `--vae-minutes` and so on for one stage."""
    prefix = f"--{stage}-" if stage else "--"
    parser.add_argument(f"{prefix}minutes", type=float, default=minutes)
    parser.add_argument(f"{prefix}steps", type=int, help="instead of minutes: the same result on every run")
