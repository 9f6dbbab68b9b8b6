"""The whole page: a tab for each pipeline that is served, and what goes from one to another."""

from typing import Any

import gradio as gr

from ui import address
from ui.chat_tab import NOTHING_SAID, ChatTab
from ui.config import CHAT, Config, ConfigError
from ui.endpoint import Endpoint
from ui.history import History
from ui.job_tab import PRIVATE, JobTab
from ui.outcome import KINDS
from ui.schemas import Field, Schema
from ui.shelf import Shelf

FILES_KEPT_S = 6 * 3600


def page(config: Config, schemas: dict[str, Schema], shelf: Shelf) -> gr.Blocks:
    """The page of a configuration that can work.

    Raises:
        ConfigError: it names a pipeline that nobody knows.
    """
    served = _served(config, schemas)
    with _blocks(config.title) as blocks:
        gr.Markdown(f"# {config.title}", elem_classes=["page-head"])
        talk = gr.BrowserState(NOTHING_SAID, storage_key="pilotlight-chat")  # in a tab it would be read too late
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            made = [_tab(schema, endpoint, config, shelf, talk) for schema, endpoint in served]
            with gr.Tab("History", id="history"):
                history = History()
        jobs = [tab for tab in made if isinstance(tab, JobTab)]
        for tab in jobs:
            _send_buttons(tab, jobs, tabs)
            tab.watching.then(
                history.remember,
                [tab.outcome.made, history.kept],
                history.components,
                api_visibility="private",
                show_progress="hidden",
                concurrency_limit=1,  # two at once would each keep what the other one adds out
                concurrency_id="history",
            )
        for each in made:
            if isinstance(each, ChatTab):
                blocks.load(each.worker_state, None, [each.worker], **PRIVATE)
        blocks.load(_Arrival(made), None, [tabs, *(tab.job for tab in made)], **PRIVATE)
    return blocks


def _served(config: Config, schemas: dict[str, Schema]) -> list[tuple[Schema, Endpoint]]:
    """The pipelines in the order of config.yml; of several endpoints for one, the first.

    Raises:
        ConfigError: one is in no schema, so that nobody knows what to ask for.
    """
    found: dict[str, tuple[Schema, Endpoint]] = {}
    for settings in config.endpoints:
        endpoint = Endpoint(settings)
        for pipeline in settings.pipelines:
            if pipeline not in schemas:
                raise ConfigError(f"config.yml names the pipeline `{pipeline}`; there are: {', '.join(schemas)}.")
            found.setdefault(pipeline, (schemas[pipeline], endpoint))
    return list(found.values())


def problems(error: ConfigError) -> gr.Blocks:
    """The page of a configuration that cannot: what its owner has to do."""
    with _blocks("Not set up yet") as blocks:
        steps = "\n".join(f"- {problem}" for problem in error.problems)
        gr.Markdown(f"# Not set up yet\n\nThe owner of this page has to:\n\n{steps}", elem_classes=["problems"])
    return blocks


def _blocks(title: str) -> gr.Blocks:
    return gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, FILES_KEPT_S))


def _tab(schema: Schema, endpoint: Endpoint, config: Config, shelf: Shelf, talk: gr.BrowserState) -> JobTab | ChatTab:
    chats = schema.pipeline == CHAT
    with gr.Tab("Chat" if chats else schema.title, id=schema.pipeline, elem_id=f"tab-{schema.pipeline}"):
        return ChatTab(schema, endpoint, config, talk) if chats else JobTab(schema, endpoint, config, shelf)


def _send_buttons(tab: JobTab, targets: list[JobTab], tabs: gr.Tabs) -> None:
    """A button below the tab's result for each other form that takes such a file."""
    made = [tab.outcome.made, tab.outcome.chosen]
    for kind, row in tab.outcome.send_rows.items():
        with row:
            for target in targets:
                taken = target.schema.takes(kind)
                if taken is None or target is tab:
                    continue
                sending = _Sending(target, taken)
                button = gr.Button(f"To {target.schema.title.lower()}", size="sm", elem_classes=["send-to"])
                button.click(sending, made, [tabs, *sending.inputs], **PRIVATE)


class _Sending:
    """Puts the chosen file into another tab's form, in place of another kind of file, and opens that tab."""

    def __init__(self, target: JobTab, taken: Field) -> None:
        self._target = target
        self._fields = [field for kind in KINDS if (field := target.schema.takes(kind))]
        self._taken = taken

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of the target's files."""
        return [self._target.form.components[field.name] for field in self._fields]

    def __call__(self, made: list[dict[str, Any]], chosen: int) -> list[Any]:
        path = made[chosen]["path"]
        files = [path if field is self._taken else None for field in self._fields]
        return [gr.update(selected=self._target.schema.pipeline), *files]


class _Arrival:
    """Takes up the job that the page's address names."""

    def __init__(self, tabs: list[JobTab | ChatTab]) -> None:
        self._tabs = tabs

    def __call__(self, request: gr.Request) -> list[Any]:
        found = address.read(request.query_params.get("job", ""))
        if found is None:
            return [gr.skip()] * (1 + len(self._tabs))
        pipeline, job = found
        named = [job if tab.schema.pipeline == pipeline else gr.skip() for tab in self._tabs]
        return [gr.update(selected=pipeline), *named]
