"""GGUF models through llama.cpp: its server, run in this process, behind one call."""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared import logs
from shared.device import Device, usable_cpus
from shared.errors import Internal, InvalidInput, JobError, ModelUnavailable
from shared.models import readahead
from shared.models.gguf_header import Header, read_header
from shared.models.json_schema import HEAD, Follower, constrained
from shared.models.volumes import is_networked
from shared.models.wanted import parts_of
from shared.schemas import ModelSource

CONTEXT = 4096  # tokens of one job, prompt and answer, where nothing else is set
MOST_SLOTS = 8
MARGIN = 2**30  # bytes of a card that neither weights nor context may take
EMBEDDED_AT_ONCE = 32  # texts between two looks at whether the job is to stop
SMALL = 100 * 2**20  # bytes of a file below which threads wait for each other longer than they compute
ERRORS_ONLY = 1
LEAST = {"context": 16, "slots": 1, "gpu_layers": -1}  # options, and their least values

# For models that bring no template: the plain turns that models were trained on before there were any.
PLAIN_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'system' %}{{ message.content }}{{ '\\n' }}
{%- else %}{{ message.role | upper }}: {{ message.content }}{{ '\\n' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}ASSISTANT:{% endif -%}"""
PLAIN_STOPS = ("\nUSER:",)

# As what Cython passes on the C++ exceptions by which llama.cpp's server refuses a request that it cannot read.
REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)

TOO_LONG = re.compile(r"input \((\d+) tokens\) is too large to process.*\D(\d+)\)")

Chunk = dict[str, Any]
Handle = Callable[[Chunk, Callable[[Chunk], bool]], Any]


@dataclass(frozen=True)
class Fit:
    """How a file is loaded: tokens of one job, jobs at once, layers on the card (-1: as many as fit)."""

    context: int
    slots: int
    gpu_layers: int


class TextModel:
    """A loaded model; up to `slots` threads may call it at once, and each call has `context` tokens."""

    def __init__(self, server: Any, fit: Fit, header: Header) -> None:
        self._server = server
        self.slots = fit.slots
        self.context = fit.context
        self.only_embeds = bool(header.of_model("pooling_type"))
        self.stops = () if has_template(header) else PLAIN_STOPS
        self.has_tools = "tools" in str(header.values.get("tokenizer.chat_template", ""))

    def chat(self, body: Mapping[str, Any], on_chunk: Callable[[Chunk], None]) -> None:
        """Answer `messages`; `on_chunk` gets each chunk as OpenAI's chat API streams them, from another thread.

        What `on_chunk` raises ends the generation within a token, and is raised here.

        Raises:
            InvalidInput: the request cannot be run; Internal: llama.cpp failed.
        """
        self._stream(self._server.handle_chat_completions, body, on_chunk)

    def complete(self, body: Mapping[str, Any], on_chunk: Callable[[Chunk], None]) -> None:
        """Continue a `prompt`; otherwise as `chat`, with the chunks of OpenAI's completions."""
        plain = {name: value for name, value in body.items() if name != "tools"}  # they are a chat
        self._stream(self._server.handle_completions, plain, on_chunk)

    def embed(
        self, inputs: Sequence[str | list[int]], encoding: str = "float", check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """The embeddings of texts, as OpenAI's API answers; `check` may stop it between a few of them.

        Raises:
            InvalidInput, Internal: as `chat`.
        """
        answer: dict[str, Any] = {"data": [], "usage": Counter()}
        for begin in range(0, len(inputs), EMBEDDED_AT_ONCE):
            check()
            part = self._embed(list(inputs[begin : begin + EMBEDDED_AT_ONCE]), encoding)
            data = [*answer["data"], *({**each, "index": begin + each["index"]} for each in part["data"])]
            answer = {**part, "data": data, "usage": answer["usage"] + Counter(part["usage"])}
        return {**answer, "usage": dict(answer["usage"])}

    def _embed(self, inputs: list[str | list[int]], encoding: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._server.handle_embeddings({"input": inputs, "encoding_format": encoding})
        except REFUSALS as exc:
            raise _refused(exc) from exc
        if "error" in answer:
            raise _error(answer["error"])
        return answer

    def _stream(self, handle: Handle, body: Mapping[str, Any], on_chunk: Callable[[Chunk], None]) -> None:
        if self.only_embeds:
            raise InvalidInput("this model only makes embeddings; send them to /v1/embeddings")
        request = {**constrained(self._bounded(body)), "stream": True, "return_progress": True}
        follow = _follower(request)
        raised: list[BaseException] = []

        def take(chunk: Chunk) -> bool:
            try:
                if "error" in chunk:
                    raise _error(chunk["error"])
                follow(chunk)
                on_chunk(chunk)
            except BaseException as exc:  # noqa: BLE001 the binding swallows what its callback raises
                raised.append(exc)
            return bool(raised)  # True ends the generation

        try:
            handle(request, take)
        except REFUSALS as exc:
            raised.append(_refused(exc))
        if raised:
            raise raised[0]

    def _bounded(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request within what this model has: its stops, its context, its template."""
        bounded = dict(body)
        if stop := [*_listed(body.get("stop")), *self.stops]:
            bounded["stop"] = stop
        if (back := body.get("repeat_last_n")) is not None:  # llama.cpp makes room for as many, and knows no -1
            bounded["repeat_last_n"] = self.context if back < 0 else min(back, self.context)
        if body.get("tools") and not self.has_tools:
            raise InvalidInput("tools: this model's template has none, so it would not hear of them")
        return bounded


def load(source: ModelSource, device: Device) -> TextModel:
    """Load a GGUF file, on the card with as many layers as fit it.

    `source.options`: `context` and `slots` as in Fit, `gpu_layers` in place of what fits.

    Raises:
        ModelUnavailable: naming the file and what is wrong with it.
    """
    import xllamacpp

    path, header = checked(source.path)
    _check_options(source.options)
    fit = _fit(header, path.stat().st_size, device, source.options, xllamacpp)
    params = _params(xllamacpp, path, header, fit, source.model_id)
    try:
        server = xllamacpp.Server(params)
        server.handle_embeddings({"input": "a"})  # before its queue runs, dropping the server would wait for ever
    except RuntimeError as exc:
        raise ModelUnavailable(
            f"{path.name}: llama.cpp cannot load it; this worker's log has its reason. A file that is whole by its "
            f"header is damaged behind it, is of an architecture newer than this llama.cpp, or needs more memory"
        ) from exc
    logs.logger.info("GGUF loaded", extra={"fields": {"model": source.model_id, **asdict(fit)}})
    return TextModel(server, fit, header)


def checked(path: Path) -> tuple[Path, Header]:
    """The first file of a model, given as a file or as a folder, and its header; the headers of all parts are read.

    Raises:
        ModelUnavailable: naming the file and what is wrong with it.
    """
    first = _file(path)
    header = read_header(first)
    for part in parts_of(first.name)[1:]:
        read_header(first.with_name(part), first=False)
    return first, header


def has_template(header: Header) -> bool:
    """Whether the file says how its model is spoken to."""
    return bool(header.values.get("tokenizer.chat_template"))


def _params(xllamacpp: Any, path: Path, header: Header, fit: Fit, model_id: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {model_id}
    params.n_ctx = fit.slots * fit.context  # llama.cpp divides it among the slots
    params.n_parallel = fit.slots
    params.n_gpu_layers = fit.gpu_layers
    params.cache_ram_mib = 0  # a slot keeps its own prompt; the cache beside them would grow to 8 GB
    params.embedding = True  # beside completions; measured: no slower
    params.verbosity = ERRORS_ONLY
    params.ui = params.endpoint_slots = params.cors_credentials = False
    params.cors_origins = "null"
    params.api_keys = [secrets.token_urlsafe(32)]  # it listens on loopback, whether it is to or not
    threads = 1 if path.stat().st_size < SMALL else usable_cpus()
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    if is_networked(path):  # read once and copied: mapped, each page that memory lacks is a wait for the network
        readahead.finish(readahead.weights(path))
        params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    if not has_template(header):
        params.chat_template = PLAIN_TEMPLATE
    if header.of_model("pooling_type"):
        params.n_batch = params.n_ubatch = fit.context  # what is embedded has to fit into one batch
    else:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return params


def _fit(header: Header, size: int, device: Device, options: Mapping[str, Any], xllamacpp: Any) -> Fit:
    trained = header.of_model("context_length", CONTEXT)
    context = min(options.get("context") or CONTEXT, trained if isinstance(trained, int) else CONTEXT)
    layers = options.get("gpu_layers")
    if device.kind == "cpu":
        layers = 0
    elif layers is None:
        layers = -1
    slots = options.get("slots") or _slots(header.kv_bytes(context), size, _free_on_cards(xllamacpp), layers)
    return Fit(context, slots, layers)


def _slots(kv_bytes: int, weights: int, free: int, layers: int) -> int:
    """How many jobs decode together: as many contexts as fit beside the weights; one where no card holds them all."""
    if layers >= 0 or kv_bytes <= 0:
        return 1
    return max(1, min(MOST_SLOTS, (free - weights - MARGIN) // kv_bytes))


def _free_on_cards(xllamacpp: Any) -> int:
    card = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
    return sum(d["memory_free"] for d in xllamacpp.get_device_info() if d["type"] == card)


def _file(path: Path) -> Path:
    """The file itself, or the only one in a folder, or the first part of the only one in parts."""
    if path.suffix == ".gguf" and not path.is_dir():  # one that is missing is named by what reads it
        return path.with_name(parts_of(path.name)[0])
    if path.is_file():
        return path
    found = sorted(path.glob("*.gguf"))
    whole = [f for f in found if f.name == parts_of(f.name)[0]]
    if len(whole) == 1:
        return whole[0]
    names = ", ".join(f.name for f in whole[:10]) or "none"
    raise ModelUnavailable(f"name the GGUF file (GGML_FILE, or `files` in models.json); there are: {names}")


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in LEAST:
            raise ModelUnavailable(f"the option '{name}' is unknown; there are: {', '.join(LEAST)}")
        if value is not None and (type(value) is not int or value < LEAST[name]):
            raise ModelUnavailable(f"the option {name} is {value!r:.40}, and must be a number from {LEAST[name]} on")


def _listed(stop: Any) -> list[Any]:
    return stop if isinstance(stop, list) else [stop] if stop else []


def _follower(request: Mapping[str, Any]) -> Callable[[Chunk], None]:
    """Checks each chunk against the request's schema, if it has one."""
    grammar = request.get("grammar")
    if not isinstance(grammar, str) or not grammar.startswith(HEAD):
        return lambda chunk: None
    followers: dict[int, Follower] = {}  # by answer: completions may be of several prompts

    def follow(chunk: Chunk) -> None:
        for choice in chunk.get("choices", ()):
            if piece := choice.get("text") or choice.get("delta", {}).get("content"):
                followers.setdefault(choice["index"], Follower(grammar)).read(piece)

    return follow


def _refused(exc: Exception) -> InvalidInput:
    return InvalidInput(f"llama.cpp refused the request: {str(exc)[:300]}")


def _error(error: Mapping[str, Any]) -> JobError:
    """An error of llama.cpp's server as ours; its messages name no paths."""
    message = str(error.get("message", "llama.cpp failed"))
    if error.get("type") == "exceed_context_size_error":
        tokens, context = error.get("n_prompt_tokens"), error.get("n_ctx")
        return InvalidInput(
            f"the prompt has {tokens} tokens, and a job here may have {context} with its answer (GGML_CONTEXT)",
            n_prompt_tokens=tokens,
            n_ctx=context,
            openai_code="context_length_exceeded",
        )
    if too_long := TOO_LONG.match(message):
        return InvalidInput(f"the text has {too_long[1]} tokens, and one to embed may have {too_long[2]} here")
    if error.get("code") in (400, 501):
        return InvalidInput(message)
    return Internal(f"llama.cpp: {message}")
