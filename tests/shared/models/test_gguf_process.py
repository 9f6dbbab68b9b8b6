"""What a text model takes of its process: threads, memory, and a port."""

import gc
import http.client
import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from urllib.parse import urlsplit

from shared.device import rss_bytes
from shared.models.gguf import TextModel
from tests.shared.models.talk import DEMO, QUESTIONS, ROOT, SQUARE, WAIT_S, open_model, pieces


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir()) if sys.platform == "linux" else threading.active_count()


def test_a_model_that_is_dropped_gives_back_its_threads_and_its_memory(demo_text: TextModel) -> None:
    """Used or not: llama.cpp waits for ever for the end of a server that has not begun."""

    def load_and_drop(*, use: bool) -> None:
        model = open_model(DEMO)
        if use:
            pieces(model, SQUARE)
        watched = weakref.ref(model)
        del model
        gc.collect()
        assert watched() is None

    for use in (True, False) * 4:
        load_and_drop(use=use)
    before, held = threads(), rss_bytes()
    for use in (True, False) * 4:
        load_and_drop(use=use)
    assert threads() - before < 8  # fewer than one a load; those of other tests' servers come and go
    assert rss_bytes() < 1.1 * held


def test_memory_is_flat_over_many_chats() -> None:
    """In a process of its own, where nothing else grows."""
    code = """
import random, sys
from pathlib import Path
from shared.device import Device, rss_bytes
from shared.models.gguf import load
from shared.schemas import ModelSource
model = load(ModelSource("demo", "main", Path(sys.argv[1])), Device("cpu", torch=False))
rng = random.Random(0)
for n in range(1, 201):
    asked = rng.choice(sys.argv[2:])
    body = {"messages": [{"role": "user", "content": asked}], "max_tokens": 60, "seed": n}
    model.chat(body, lambda chunk: None)
    if n in (50, 200):
        print(rss_bytes())
"""
    command = [sys.executable, "-c", code, str(DEMO), *QUESTIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after_50, after_200 = map(int, done.stdout.split())
    assert after_200 <= 1.05 * after_50


ROUTES = [
    *("/", "/v1/models", "/models", "/props", "/slots", "/metrics", "/lora-adapters", "/completion", "/completions"),
    *("/v1/completions", "/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/embedding"),
    *("/embeddings", "/v1/embeddings", "/rerank", "/v1/rerank", "/tokenize", "/detokenize", "/apply-template"),
    *("/models/load", "/tools", "/cors-proxy", "/index.html", "/api/show", "/api/tags"),
    *("/slots/0?action=erase", "/infill"),
]  # fmt: skip


def test_the_port_that_llama_cpp_opens_answers_nothing_of_use_without_its_key(demo_text: TextModel) -> None:
    address = urlsplit(demo_text._server.listening_address)
    assert address.hostname == "127.0.0.1"
    body = json.dumps({"prompt": "hi", "input": "hi", "content": "hi", "messages": [], "max_tokens": 1})
    for route in ROUTES:
        for method in ("GET", "POST"):
            connection = http.client.HTTPConnection("127.0.0.1", int(str(address.port)), timeout=WAIT_S)
            connection.request(method, route, body if method == "POST" else None, {"Authorization": "Bearer x"})
            status = connection.getresponse().status
            connection.close()
            assert status in (401, 404), (method, route, status)
