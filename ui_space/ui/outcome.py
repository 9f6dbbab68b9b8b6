"""Where a job's result appears: pictures, films and text in one place, what there is to say, and what comes next."""

from dataclasses import asdict
from typing import Any

import gradio as gr

from ui import results, status
from ui.results import Made, Result

HEIGHT = 360
KINDS = ("image", "video")
WAITING = "What you make appears here."
NOTHING = "The job is done. It has no output to show."
Updates = dict[gr.components.Component, Any]


class Outcome:
    """The components, made here in the page."""

    def __init__(self, *, has_seed: bool) -> None:
        self.stage = gr.HTML(status.stage(WAITING), elem_classes=["stage"])
        self.images = gr.Gallery(
            visible=False,
            show_label=False,
            height=HEIGHT,
            columns=2,
            object_fit="contain",
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_classes=["made-images"],
        )
        self.video = gr.Video(
            visible=False, show_label=False, height=HEIGHT, autoplay=True, loop=True, elem_classes=["made-video"]
        )
        self.text = gr.Textbox(
            visible=False, show_label=False, lines=12, buttons=["copy"], elem_classes=["made-text"]
        )
        self.rest = gr.JSON(visible=False, show_label=False, max_height=HEIGHT, elem_classes=["made-json"])
        self.others = gr.File(
            visible=False, label="Files", file_count="multiple", interactive=False, elem_classes=["made-files"]
        )
        self.facts = gr.HTML(visible=False)
        with gr.Row(visible=False) as self.next_row:
            self.download = gr.DownloadButton("Download", size="sm")
            self.reuse_seed = gr.Button("Reuse seed", size="sm", visible=has_seed)
        self.send_rows = {kind: gr.Row(visible=False) for kind in KINDS}  # for buttons to other tabs
        with gr.Accordion("Receipt", open=False, visible=False) as self.receipt_box:
            self.receipt = gr.Code(language="json", show_label=False, max_lines=18, elem_classes=["receipt"])
        self.made = gr.State([])  # the files, as dictionaries
        self.chosen = gr.State(0)

    @property
    def components(self) -> list[gr.components.Component]:
        """What the updates of this class are about."""
        return [
            self.stage,
            self.images,
            self.video,
            self.text,
            self.rest,
            self.others,
            self.facts,
            self.next_row,
            *self.send_rows.values(),
            self.download,
            self.reuse_seed,
            self.receipt_box,
            self.receipt,
            self.made,
            self.chosen,
        ]

    def waiting(self, preview: str | None = None) -> Updates:
        """Nothing yet, or a first look at it."""
        rows = self.send_rows.values()
        shown = (self.images, self.video, self.text, self.rest, self.others, self.facts)
        hidden = (*shown, self.next_row, *rows, self.receipt_box)
        return {
            self.stage: gr.update(value=preview or status.stage(), visible=True),
            **{component: gr.update(visible=False) for component in hidden},
        }

    def shown(self, result: Result) -> Updates:
        """The result of a job."""
        images, videos, others = result.of("image"), result.of("video"), result.of("file")
        media = [*images, *videos]
        first = media[0].path if media else None
        nothing = not (result.files or result.text or result.rest)
        return {
            self.stage: gr.update(value=status.stage(NOTHING), visible=nothing),
            self.images: gr.update(
                value=[(made.path, made.caption) for made in images],
                visible=bool(images),
                preview=len(images) == 1,
                selected_index=0 if len(images) == 1 else None,
            ),
            self.video: gr.update(value=videos[0].path if videos else None, visible=bool(videos)),
            self.text: gr.update(value=result.text, visible=bool(result.text)),
            self.rest: gr.update(value=result.rest, visible=result.rest is not None),
            self.others: gr.update(value=[made.path for made in others], visible=bool(others)),
            self.facts: gr.update(value=results.details(result), visible=bool(result.facts)),
            self.next_row: gr.update(visible=first is not None),
            **{row: gr.update(visible=bool(result.of(kind))) for kind, row in self.send_rows.items()},
            self.download: gr.update(value=first),
            self.reuse_seed: _seed_label(result.seed),
            self.receipt_box: gr.update(visible=result.receipt is not None),
            self.receipt: results.receipt_text(result),
            self.made: [asdict(made) for made in media],
            self.chosen: 0,
        }

    def choose(self, made: list[dict[str, Any]], event: gr.SelectData) -> Updates:
        """The visitor looks at one of several pictures: the buttons are about that one."""
        one = Made(**made[event.index])
        return {self.chosen: event.index, self.download: one.path, self.reuse_seed: _seed_label(one.seed)}

    def wire(self) -> None:
        """Follow the choice."""
        self.images.select(
            self.choose,
            [self.made],
            [self.chosen, self.download, self.reuse_seed],
            queue=False,
            api_visibility="private",
        )


def _seed_label(seed: int | None) -> Any:
    return gr.update(value="Reuse seed" if seed is None else f"Reuse seed {seed}", interactive=seed is not None)
