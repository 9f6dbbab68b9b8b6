"""One pipeline's tab: a form, a job, its result."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import gradio as gr

from ui import address, failures, jobs, results, status
from ui.config import Config
from ui.endpoint import Endpoint
from ui.failures import Failure
from ui.follow import View, follow
from ui.form import Form
from ui.outcome import Outcome, Updates
from ui.schemas import Schema
from ui.shelf import Shelf

PRIVATE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


class JobTab:
    """The components of a pipeline, made here in the page, and what they do.

    `job` holds the id of the job that the tab shows, with `#` and a number once it was tried again. Whatever is
    written into it is followed: a job that was submitted here, or one that the page's address names. `note` is what
    the browser is to remember of it, `opened` what the form is to be filled with: see `jobs`.
    """

    def __init__(self, schema: Schema, endpoint: Endpoint, config: Config, shelf: Shelf) -> None:
        self.schema = schema
        self.endpoint = endpoint
        self._config = config
        self._shelf = shelf
        with gr.Row():
            with gr.Column(scale=5, min_width=300):
                gr.Markdown(schema.summary)
                self.form = Form(schema, config.defaults.get(schema.pipeline, {}))
                self._examples()
            with gr.Column(scale=6, min_width=300):
                with gr.Row():
                    self.submit = gr.Button("Submit", variant="primary", elem_classes=["submit-job"])
                    self.cancel = gr.Button("Cancel", interactive=False, elem_classes=["cancel-job"])
                    self.retry = gr.Button("Retry", visible=False, elem_classes=["retry-job"])
                self.status = gr.HTML(status.block(status.READY), elem_classes=["status"])
                self.outcome = Outcome(has_seed="seed" in self.form.components)
        self.job = gr.Textbox(visible="hidden", elem_classes=["job-id"], label="Job", show_label=False)
        self.note = gr.Textbox(visible="hidden", show_label=False)
        self.opened = gr.Textbox(visible="hidden", show_label=False)
        self._wire()

    def _examples(self) -> None:
        said = self._config.examples.get(self.schema.pipeline)
        if said and "prompt" in self.form.components:
            gr.Examples([[prompt] for prompt in said], [self.form.components["prompt"]], api_visibility="private")

    def _wire(self) -> None:
        watched = [self.status, self.submit, self.cancel, self.retry, *self.outcome.components, self.note]
        sent = [self.job, self.status, self.submit, self.retry, self.note]
        self.submit.click(
            self.begin,
            self.form.inputs,
            sent,
            api_name=self.schema.pipeline,
            show_progress="hidden",
            concurrency_limit=None,
        )
        self.watching = self.job.change(
            self.watch,
            [self.job],
            watched,
            js=address.shown(self.schema.pipeline),
            api_name=f"{self.schema.pipeline}-result",
            show_progress="hidden",
            concurrency_limit=self._config.concurrency,
            concurrency_id="watch",
        )
        pressed = self.cancel.click(
            lambda: gr.update(value="Cancelling", interactive=False), None, [self.cancel], **PRIVATE
        )
        pressed.then(self.stop, [self.job], None, **PRIVATE)
        self.retry.click(self.begin_again, [self.job], sent, **PRIVATE)
        self.outcome.wire()
        if seed := self.form.components.get("seed"):
            self.outcome.reuse_seed.click(_seed, [self.outcome.made, self.outcome.chosen], [seed], **PRIVATE)

    def begin(self, *values: Any) -> Updates:
        """Submit what the form holds."""
        try:
            given = self.form.job_input(values)
            job = self.endpoint.submit(given, wait=not self._config.prefer_async)
        except Failure as failure:
            return {self.status: status.of_failure(failure)}
        return {**self._begun(job["id"]), self.note: jobs.begun(job["id"], given, self._named(given))}

    def begin_again(self, job: str) -> Updates:
        """Queue the job again that failed."""
        job_id, _, attempt = job.partition("#")
        try:
            self.endpoint.retry(job_id)
        except Failure as failure:
            return {self.status: status.of_failure(failure)}
        return {**self._begun(f"{job_id}#{int(attempt or 0) + 1}"), self.note: jobs.changed(job_id, "IN_QUEUE")}

    @property
    def form_components(self) -> list[gr.components.Component]:
        """What `showing` updates."""
        return self.form.inputs

    def showing(self, params: Mapping[str, Any]) -> Updates:
        """The form as it was when it sent these parameters."""
        return self.form.showing(params)

    def _begun(self, job: str) -> Updates:
        return {
            self.job: job,
            self.status: status.block("Submitted", busy=True),
            self.submit: gr.update(interactive=False),
            self.retry: gr.update(visible=False),
        }

    def stop(self, job: str) -> None:
        """Cancel the job on the endpoint; who watches it sees that."""
        try:
            self.endpoint.cancel(job.partition("#")[0])
        except Failure as failure:
            gr.Warning(f"{failure.title}. {failure.message}")

    async def watch(self, job: str) -> AsyncIterator[Updates]:
        """Show the job until it has ended, then its result or its failure."""
        if not job:
            return
        yield {
            self.submit: gr.update(interactive=False),
            self.cancel: gr.update(value="Cancel", interactive=True),
            self.retry: gr.update(visible=False),
            **self.outcome.waiting(),
        }
        last: View | None = None
        failed: Failure | None = None
        try:
            known = {"id": job.partition("#")[0], "status": "IN_QUEUE"}
            async for view in follow(self.endpoint, known, self._config.poll):
                last = view
                yield {self.status: status.of_view(view), **self._preview(view)}
            if last and last.job["status"] == "COMPLETED":
                yield await self._finished(last)
                return
            failed = failures.of_job(last.job) if last else None
        except Failure as failure:
            failed = failure
        yield self._failed(failed or Failure("internal", "The endpoint said nothing."), job)

    def _preview(self, view: View) -> Updates:
        picture = status.preview(view)
        return {self.outcome.stage: picture} if picture else {}

    async def _finished(self, view: View) -> Updates:
        """The result, its files fetched.

        Raises:
            Failure: a file could not be fetched.
        """
        about = self._about(view.job)
        result = await self.endpoint.aside(
            results.collect, self.endpoint, view.job, about, self._config.currency, self._shelf
        )
        return {
            self.status: status.of_view(view),
            self.note: jobs.changed(view.job["id"], view.job["status"]),
            **self._over(),
            **self.outcome.shown(result),
        }

    def _about(self, job: dict[str, Any]) -> str:
        """The prompt, as the receipt has it, since the form may hold another one by now."""
        return self._named(results.params_of(job)) or self.schema.title

    def _named(self, params: Mapping[str, Any]) -> str:
        """What was asked for in words: the prompt, also of a chain's step, else the form's first text."""
        steps = params.get("steps")
        chained = [step.get("prompt") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
        texts = [params.get(field.name) for field in self.schema.in_sight if field.kind == "text"]
        said = (params.get("prompt"), *chained, *texts)
        return next((words for words in said if isinstance(words, str) and words), "")

    def _failed(self, failure: Failure, job: str) -> Updates:
        return {
            self.status: status.of_failure(failure),
            self.note: jobs.changed(job, failure.ended) if failure.ended else gr.skip(),
            **self._over(),
            self.retry: gr.update(visible=failure.ended in ("FAILED", "TIMED_OUT")),
            self.outcome.stage: status.stage(),
        }

    def _over(self) -> Updates:
        return {self.submit: gr.update(interactive=True), self.cancel: gr.update(value="Cancel", interactive=False)}


def _seed(made: list[dict[str, Any]], chosen: int) -> Any:
    return str(made[chosen]["seed"]) if made else gr.skip()
