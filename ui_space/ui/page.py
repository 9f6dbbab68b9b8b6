"""The whole page: a tab for each pipeline that is served, and what goes from one to another."""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ui import address, jobs, results
from ui.chat_tab import ChatTab
from ui.config import CHAT, Config, ConfigError
from ui.endpoint import Endpoint
from ui.failures import Failure
from ui.history import History
from ui.job_tab import PRIVATE, JobTab
from ui.outcome import KINDS, Updates
from ui.schemas import Field, Schema
from ui.shelf import Shelf
from ui.talks import NOTHING_SAID

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
            with gr.Tab("History", id="_history"):  # which no pipeline is called
                history = History({schema.pipeline: _title(schema) for schema, _ in served})
        job_tabs = [tab for tab in made if isinstance(tab, JobTab)]
        for tab in job_tabs:
            _send_buttons(tab, job_tabs, tabs)
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
            each.note.change(history.listed, [each.note], history.listing, js=jobs.NOTE, **PRIVATE)
            if isinstance(each, ChatTab):
                blocks.load(each.worker_state, None, [each.worker], **PRIVATE)
        history.forget.click(history.listed, [history.stored], history.listing, js=jobs.FORGET, **PRIVATE)
        _Opening(made, tabs, history).wire(blocks)
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
                raise ConfigError(
                    f"config.yml names the pipeline `{pipeline}`; schemas.json has: {', '.join(schemas)}. "
                    "`pilotlight schemas > ui_space/schemas.json` writes it anew, with the pipelines in HANDLERS too."
                )
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
    with gr.Tab(_title(schema), id=schema.pipeline, elem_id=f"tab-{schema.pipeline}"):
        if schema.pipeline == CHAT:
            return ChatTab(schema, endpoint, config, talk)
        return JobTab(schema, endpoint, config, shelf)


def _title(schema: Schema) -> str:
    return "Chat" if schema.pipeline == CHAT else schema.title


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


class _Opening:
    """Opens the job of the page's address, or of a row of the history, in its tab."""

    def __init__(self, made: list[JobTab | ChatTab], tabs: gr.Tabs, history: History) -> None:
        self._made = {tab.schema.pipeline: tab for tab in made}
        self._tabs = tabs
        self._history = history

    def wire(self, blocks: gr.Blocks) -> None:
        """Listen to both, and to the tabs whose forms are to be filled."""
        stored, listing = self._history.stored, self._history.listing
        opened = [self._tabs, *(each for tab in self._made.values() for each in (tab.job, tab.opened))]
        blocks.load(self.of_address, [stored], [*opened, *listing], js=jobs.RECALL, **PRIVATE)
        self._history.rows.click(self.of_row, [stored], opened, js=jobs.RECALL, **PRIVATE)
        for tab in self._made.values():
            tab.opened.change(_Form(tab).fill, [tab.opened], tab.form_components, **PRIVATE)

    def of_address(self, stored: str, request: gr.Request) -> Updates:
        """The job that the page's address names, and all that the browser remembers."""
        listed = dict(zip(self._history.listing, self._history.listed(stored), strict=True))
        return {**listed, **self._open(request.query_params.get("job", ""), stored)}

    def of_row(self, stored: str, event: gr.EventData) -> Updates:
        """The job of the row that was clicked."""
        return self._open(str(event.job), stored) or gr.skip()

    def _open(self, named: str, stored: str) -> Updates:
        pipeline, job = address.read(named) or ("", "")
        tab = self._made.get(pipeline)
        if tab is None:
            return {}
        opened = jobs.opened(job.partition("#")[0], jobs.read(stored))
        return {self._tabs: gr.update(selected=pipeline), tab.job: job, tab.opened: opened}


class _Form:
    """A tab's form, as it was when it sent the job that is opened: by what this browser sent, else by the receipt."""

    def __init__(self, tab: JobTab | ChatTab) -> None:
        self._tab = tab

    async def fill(self, opened: str) -> Updates:
        """Show the parameters; nothing changes where nobody knows them yet."""
        job = json.loads(opened)
        params = job["params"]
        if params is None:
            params = await self._told(job["job"])
        return self._tab.showing(params) if params is not None else gr.skip()

    async def _told(self, job_id: str) -> Mapping[str, Any] | None:
        endpoint = self._tab.endpoint
        try:
            return results.params_of(await endpoint.aside(endpoint.status, job_id)) or None
        except Failure:  # said where the job is followed
            return None
