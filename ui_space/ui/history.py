"""What was made in this visit, newest first."""

from typing import Any

import gradio as gr

MOST = 60
EMPTY = "Nothing yet. What you make in this visit is listed here; a reload begins anew."


class History:
    """The tab of earlier results, made here in the page; each is a file as `results.Made` has it."""

    def __init__(self) -> None:
        self.note = gr.Markdown(EMPTY)
        self.gallery = gr.Gallery(
            visible=False,
            show_label=False,
            columns=4,
            height=520,
            object_fit="contain",
            interactive=False,
            elem_classes=["history-images"],
        )
        self.kept = gr.State([])

    def remember(self, made: list[dict[str, Any]], kept: list[dict[str, Any]]) -> list[Any]:
        """Put new files first; the same file is listed once."""
        known = {one["path"] for one in kept}
        kept = [*(one for one in made if one["path"] not in known), *kept][:MOST]
        shown = [(one["path"], one["caption"]) for one in kept]
        return [kept, gr.update(value=shown, visible=bool(shown)), gr.update(visible=not shown)]

    @property
    def components(self) -> list[gr.components.Component]:
        """What `remember` updates."""
        return [self.kept, self.gallery, self.note]
