"""What was made before: the jobs that this browser remembers, and the pictures and films of this visit."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ui import jobs

MOST = 60


class History:
    """The tab of earlier jobs and results, made here in the page; `titles` are those of the pipelines it has."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self.rows = gr.HTML(jobs.rows([], titles), js_on_load=jobs.OPEN, elem_classes=["history-jobs"])
        self.forget = gr.Button("Forget these jobs", size="sm", visible=False, elem_classes=["forget-jobs"])
        self.gallery = gr.Gallery(
            visible=False,
            show_label=False,
            columns=4,
            height=520,
            object_fit="contain",
            interactive=False,
            elem_classes=["history-images"],
        )
        self.stored = gr.Textbox(visible="hidden", show_label=False)  # what the browser sends, as it keeps it
        self.kept = gr.State([])

    def listed(self, stored: str) -> list[Any]:
        """Show what the browser keeps."""
        noted = jobs.read(stored)
        return [jobs.rows(noted, self._titles), gr.update(visible=bool(noted))]

    @property
    def listing(self) -> list[gr.components.Component]:
        """What `listed` updates."""
        return [self.rows, self.forget]

    def remember(self, made: list[dict[str, Any]], kept: list[dict[str, Any]]) -> list[Any]:
        """Put new pictures and films first, as `results.Made` has them; the same file is listed once."""
        known = {one["path"] for one in kept}
        kept = [*(one for one in made if one["path"] not in known), *kept][:MOST]
        return [kept, gr.update(value=[(one["path"], one["caption"]) for one in kept], visible=bool(kept))]

    @property
    def components(self) -> list[gr.components.Component]:
        """What `remember` updates."""
        return [self.kept, self.gallery]
