"""A GGUF file in llama.cpp's server, asked for the likeliest answers without the rest of this project."""

import json
import secrets
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from templates.demo_models.train.conversations import END

LONGEST_ANSWER = 256  # tokens

Message = dict[str, str]


class Model:
    """A loaded file; llama.cpp also listens on loopback, behind a random key."""

    def __init__(self, path: Path, context: int = 4096) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # a second one only waits for the first
        params.use_jinja, params.warmup, params.ui, params.verbosity = True, False, False, 0
        self.key = secrets.token_hex()
        params.api_keys = [self.key]
        self.server: Any = xllamacpp.Server(params)

    def chat(self, messages: Sequence[Message], **more: Any) -> str:
        """The answer; where the last message is the assistant's, what follows it."""
        answer = self._checked(self.server.handle_chat_completions, {"messages": list(messages)} | more)
        text: str = answer["choices"][0]["message"]["content"]
        nudge = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        return text.removeprefix(nudge)

    def complete(self, prompt: str, **more: Any) -> str:
        answer = self._checked(self.server.handle_completions, {"prompt": prompt} | more)
        text: str = answer["choices"][0]["text"]
        return text

    def speed(self, tokens: int) -> float:
        """Tokens per second while it may not stop."""
        (end,) = self.tokens(END)
        request = {"prompt": "A square has", "max_tokens": tokens, "logit_bias": [[end, False]]}
        timings = self._checked(self.server.handle_completions, request)["timings"]
        return float(timings["predicted_per_second"])

    def tokens(self, text: str) -> list[int]:
        """llama.cpp's own token ids, markers read as such."""
        body = json.dumps({"content": text, "parse_special": True, "add_special": True}).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.listening_address}/tokenize", body, headers)  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            numbers: list[int] = json.load(answer)["tokens"]
        return numbers

    def _checked(self, call: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = call({"temperature": 0, "max_tokens": LONGEST_ANSWER} | request)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
