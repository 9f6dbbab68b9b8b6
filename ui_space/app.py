"""Serves the page: `python app.py`, on a Hugging Face Space or beside `pilotlight up`."""

import argparse
import os
import tempfile
from pathlib import Path

from ui import config, page, schemas, theme
from ui.shelf import Shelf

HERE = Path(__file__).parent
THREADS = 40  # for what is short
EVERYWHERE = "0.0.0.0"  # noqa: S104 a Space is reached from outside; elsewhere whoever reaches the page uses its key


def main() -> None:
    """Read the configuration, make the page, and serve it until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE / "config.yml")
    parser.add_argument("--schemas", type=Path, default=HERE / "schemas.json")
    parser.add_argument("--host", default=EVERYWHERE if os.environ.get("SPACE_ID") else "127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilotlight-page-") as folder:
        serve(args.config, args.schemas, args.host, args.port, Shelf(Path(folder)))


def serve(path: Path, pipelines: Path, host: str, port: int, shelf: Shelf) -> None:
    """Serve the page of a config.yml and a schemas.json, or a page that says what is missing in them."""
    queue_max, followers = config.Config.queue_max, config.Config.concurrency
    try:
        given = config.load(path, os.environ)
        blocks = page.page(given, schemas.read(pipelines), shelf)
        queue_max, followers = given.queue_max, given.concurrency
    except config.ConfigError as error:
        blocks = page.problems(error)
    blocks.queue(max_size=queue_max, default_concurrency_limit=None)
    blocks.launch(
        server_name=host,
        server_port=port,
        max_threads=followers + THREADS,
        theme=theme.theme(),
        css_paths=theme.CSS,
        js=theme.SCRIPT.read_text(),
        footer_links=[],
        share=False,
        ssr_mode=False,
    )


if __name__ == "__main__":
    main()
