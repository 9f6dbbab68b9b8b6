"""The chat: a conversation whose answers stream, the sliders that shape them, and a button that stops them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

import gradio as gr

from ui import address, chat, jobs, receipts, results, status, talks
from ui.chat import Answer, Settings
from ui.config import Config
from ui.endpoint import Endpoint
from ui.failures import Failure
from ui.inputs import restored
from ui.outcome import Updates
from ui.schemas import Field, Schema

PRIVATE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
SLIDERS = {
    "max_new_tokens": ("Max tokens", 20, 1000, 20),
    "temperature": ("Temperature", 0.2, 2.0, 0.1),
    "top_p": ("Top p", 0.0, 1.0, 0.05),
    "top_k": ("Top k", 0, 100, 1),
    "repetition_penalty": ("Repetition penalty", 0.0, 2.0, 0.1),
}
SHOWN = (*SLIDERS, "stop", "system_prompt", "pipeline", "format")
SYSTEM_PROMPT = "You are a helpful assistant. Say so where you do not know."
COLD = "No worker is running. The first answer waits for one to start, which can take a minute; the next ones do not."


class ChatTab:
    """The components of the chat, made here in the page, and what they do.

    `talk` is kept by the visitor's browser: the turns before the answer of the job that it names, and the answer's
    first words. Whatever job is written into `job` is read from its first word on, so that a reload repeats nothing.
    """

    def __init__(self, schema: Schema, endpoint: Endpoint, config: Config, talk: gr.BrowserState) -> None:
        self.schema = schema
        self.endpoint = endpoint
        self._config = config
        self._defaults = dict(config.defaults.get(schema.pipeline, {}))
        self.talk = talk
        self.job = gr.Textbox(visible="hidden", elem_classes=["job-id"], label="Job", show_label=False)
        self.note = gr.Textbox(visible="hidden", show_label=False)
        self.opened = gr.Textbox(visible="hidden", show_label=False)
        with gr.Row():
            with gr.Column(scale=7, min_width=300):
                self._conversation()
            with gr.Column(scale=4, min_width=280):
                self._settings()
        self._wire()

    def _conversation(self) -> None:
        model = self._config.model_url
        if model:
            gr.Markdown(f"The model: <{model}>")
        self.worker = gr.HTML(elem_classes=["worker"])
        self.chatbot = gr.Chatbot(height=430, show_label=False, buttons=["copy"], elem_classes=["chat"])
        self.status = gr.HTML(status.block(status.READY), elem_classes=["status"])
        self.message = gr.Textbox(
            label="Message", lines=2, placeholder="Ask something", elem_classes=["chat-message"]
        )
        with gr.Row():
            self.send = gr.Button("Send", variant="primary", min_width=80, elem_classes=["submit-job"])
            self.roleplay = gr.Button("Roleplay", min_width=80)
            self.stop = gr.Button("Stop", interactive=False, min_width=80, elem_classes=["cancel-job"])
            self.new = gr.Button("New topic", min_width=80)
        if said := self._config.examples.get(self.schema.pipeline):
            gr.Examples([[message] for message in said], [self.message], api_visibility="private")

    def _settings(self) -> None:
        given = self._defaults
        self.system = gr.Textbox(given.get("system_prompt", SYSTEM_PROMPT), label="System prompt", lines=3)
        self.nudge = gr.Textbox(label="Nudge", info="First words of the answer.", elem_classes=["chat-nudge"])
        self.format = gr.Dropdown(
            chat.FORMATS,
            value=given.get("format", chat.TEMPLATE),
            label="Format",
            info="Roleplay takes its own. Workers that know no messages get USER: and ASSISTANT: by themselves.",
        )
        own = asdict(Settings())
        self.sliders = {
            name: gr.Slider(low, high, min(high, max(low, given.get(name, own[name]))), step=step, label=label)
            for name, (label, low, high, step) in SLIDERS.items()
        }
        stop = given.get("stop") or []
        stops = [stop] if isinstance(stop, str) else stop
        self.stops = gr.Textbox(
            "\n".join(map(str, stops)), label="Stop", info="Where the answer ends; one a line.", lines=2
        )

    def _wire(self) -> None:
        asked = [self.message, self.chatbot, self.nudge, self.system, self.stops, *self.sliders.values()]
        begun = [self.job, self.talk, self.chatbot, self.message, self.nudge, self.status, self.send, self.note]
        self.send.click(self.begin, [self.format, *asked], begun, api_name="chat", show_progress="hidden")
        self.roleplay.click(self.begin_roleplay, asked, begun, api_visibility="private", show_progress="hidden")
        self.job.change(
            self.read,
            [self.job, self.talk, self.system, self.stops, *self.sliders.values()],
            [self.job, self.talk, self.chatbot, self.status, self.send, self.stop, self.note],
            js=address.shown(self.schema.pipeline),
            api_name="chat-answer",
            show_progress="hidden",
            concurrency_limit=self._config.concurrency,
            concurrency_id="watch",
        )
        self.stop.click(self.cancel, [self.job], None, **PRIVATE)
        self.new.click(self.clear, None, [self.talk, self.chatbot, self.job, self.status], **PRIVATE)

    def begin_roleplay(self, *values: Any) -> Updates:
        """As `begin`, with the marks that roleplay models know."""
        return self.begin(chat.ROLEPLAY, *values)

    def begin(
        self,
        form: str,
        message: str,
        shown: list[dict[str, Any]],
        nudge: str,
        *values: Any,
    ) -> Updates:
        """Submit the next question."""
        if not message.strip():
            return {self.status: status.block("Write a message first.")}
        turns = [*talks.of_chatbot(shown), {"role": "user", "content": message.strip()}]
        settings = self._read_settings(*values)
        try:
            job_id = self._submit(turns, nudge, form, settings)
        except Failure as failure:
            return {self.status: status.of_failure(failure)}
        return {
            self.job: job_id,
            self.talk: {"job": job_id, "turns": turns, "nudge": nudge, "format": form},
            self.chatbot: talks.with_answer(turns, nudge),
            self.message: "",
            self.nudge: "",
            self.status: status.block("Submitted", busy=True),
            self.send: gr.update(interactive=False),
            self.note: self._note(job_id, turns, settings),
        }

    def _note(self, job_id: str, turns: list[chat.Turn], settings: Settings) -> str:
        given = {**settings.as_input(), "system_prompt": settings.system_prompt, "stop": list(settings.stop)}
        return jobs.begun(job_id, {**given, "pipeline": self.schema.pipeline}, turns[-1]["content"])

    @property
    def form_components(self) -> list[gr.components.Component]:
        """What `showing` updates."""
        return [*self.sliders.values(), self.system, self.stops]

    def showing(self, params: Mapping[str, Any]) -> Updates:
        """The settings as they were when these parameters were sent, which anybody may have written."""
        said = {name: restored(Field(name, "number"), params.get(name)) for name in SLIDERS}
        shown = {
            slider: gr.update(value=min(max(said[name], slider.minimum), slider.maximum))
            for name, slider in self.sliders.items()
            if said[name] is not None
        }
        system, stop = params.get("system_prompt"), params.get("stop")
        if isinstance(system, str):
            shown[self.system] = system
        if isinstance(stop, list):
            shown[self.stops] = "\n".join(map(str, stop))
        return shown

    def _submit(self, turns: list[chat.Turn], nudge: str, form: str, settings: Settings) -> str:
        given = chat.job_input(self.schema.pipeline, turns, nudge, form, settings)
        return str(self.endpoint.submit(given)["id"])

    def _read_settings(self, system: str, stops: str, *numbers: float) -> Settings:
        max_new_tokens, temperature, top_p, top_k, repetition_penalty = numbers  # as SLIDERS has them
        return Settings(
            max_new_tokens=int(max_new_tokens),
            temperature=temperature,
            top_p=top_p,
            top_k=int(top_k),
            repetition_penalty=repetition_penalty,
            system_prompt=system,
            stop=tuple(line for line in stops.splitlines() if line),
            more={name: value for name, value in self._defaults.items() if name not in SHOWN},
        )

    async def read(self, job_id: str, talk: dict[str, Any], *values: Any) -> AsyncIterator[Updates]:
        """Show the answer as it is written; on a worker that knows prompts only, ask once more."""
        if not job_id:
            return
        talk = talks.kept(talk, job_id)
        turns, nudge, written = talk["turns"], talk["nudge"], ""
        yield {self.send: gr.update(interactive=False), self.stop: gr.update(interactive=True)}
        try:
            async for answer in chat.answer(self.endpoint, job_id):
                for state in self._typed(written, answer.text):
                    yield {
                        self.chatbot: talks.with_answer(turns, nudge + state),
                        self.status: await self._told(answer),
                    }
                    await asyncio.sleep(self._config.typing_delay_s)
                written = answer.text
        except Failure as failure:
            yield {self.note: jobs.changed(job_id, failure.ended) if failure.ended else gr.skip()}
            if not written and talk["format"] == chat.TEMPLATE and turns and chat.refuses_messages(failure):
                yield await self._ask_plainly(talk, self._read_settings(*values))
                return
            yield {self.status: status.of_failure(failure), **self._over()}
            return
        if not turns:
            turns, nudge = talks.asked(answer.details)
            yield {self.chatbot: talks.with_answer(turns, nudge + answer.text)}
        told = status.block(self._ended(answer), 1.0)
        yield {self.status: told, self.note: jobs.changed(job_id, "COMPLETED"), **self._over()}

    def _typed(self, before: str, now: str) -> list[str]:
        """The states between two texts: word by word where config.yml wants typing, else the last one."""
        if not self._config.typing_delay_s or not now.startswith(before):
            return [now]
        states, added = [], ""
        for word in chat.words(now[len(before) :]):
            added += word
            states.append(before + added)
        return states or [now]

    async def _told(self, answer: Answer) -> str:
        if answer.status == "IN_QUEUE":
            return status.block(await self.worker_state() or "Queued", busy=True)
        return status.block("Writing" if answer.text else "A worker has it", busy=True)

    async def _ask_plainly(self, talk: dict[str, Any], settings: Settings) -> Updates:
        try:
            job_id = await self.endpoint.aside(self._submit, talk["turns"], talk["nudge"], chat.PLAIN, settings)
        except Failure as failure:
            return {self.status: status.of_failure(failure), **self._over()}
        return {
            self.job: job_id,
            self.talk: {**talk, "job": job_id, "format": chat.PLAIN},
            self.status: status.block("Asking again without the chat template", busy=True),
            self.note: self._note(job_id, talk["turns"], settings),
        }

    def _ended(self, answer: Answer) -> str:
        usage, receipt = answer.details.get("usage") or {}, answer.details.get("receipt")
        metrics = answer.details.get("metrics") or {}
        took = f"in {status.seconds(metrics['run_s'])}" if metrics.get("run_s") else ""
        tokens = f"{usage['completion_tokens']} tokens" if usage.get("completion_tokens") else "Done"
        parts = [f"{tokens} {took}".strip()]
        if isinstance(receipt, dict):
            holds, why = receipts.check(receipt, self.endpoint.settings.receipt_key, [answer.text.encode()])
            parts.append(f"receipt {results.MARKS[holds]} {why}")
        return " · ".join(parts)

    async def worker_state(self) -> str:
        """What the visitor is to expect of the next answer; empty where nobody knows."""
        try:
            health = await self.endpoint.aside(self.endpoint.health)
        except Failure as failure:
            return f"{failure.title}. {failure.hint}"
        counts = health.get("workers") or {}
        if not any(counts.get(state) for state in ("idle", "ready", "running", "initializing")):
            return COLD
        return status.workers(health).capitalize() or "A worker is ready."

    def cancel(self, job_id: str) -> None:
        """Stop the answer on the endpoint; who reads it sees that."""
        try:
            self.endpoint.cancel(job_id)
        except Failure as failure:
            gr.Warning(f"{failure.title}. {failure.message}")

    def clear(self) -> list[Any]:
        """Forget the conversation."""
        return [talks.NOTHING_SAID, [], "", status.block(status.READY)]

    def _over(self) -> Updates:
        return {self.send: gr.update(interactive=True), self.stop: gr.update(interactive=False)}
