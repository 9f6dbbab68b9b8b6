"""Text from a real worker: the first worker's session, several at once, and files that cannot be served."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from platforms.local.up import LocalEndpoint
from shared.errors import InsufficientCapacity
from shared.jobs.client import Client
from shared.models.gguf_header import read_header
from tests.platforms.harness import until

MODEL = Path(__file__).parents[2] / "templates" / "demo_models" / "text-generation" / "model.gguf"
NAME = "text-generation"
PROMPT = (
    "The following is a chat between a USER and a helpful ASSISTANT.\n"
    "USER: How many corners does a square have? \nASSISTANT:"
)
LONG = 50_000  # tokens: longer than any test looks at


class Session:
    """The first worker's README as requests."""

    def __init__(self, endpoint: LocalEndpoint) -> None:
        self.url = f"{endpoint.url}/{NAME}"
        self._headers = {"Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json; charset=utf-8"}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer(requests.post(f"{self.url}/{path}", headers=self._headers, json=body, timeout=30))

    def get(self, path: str) -> dict[str, Any]:
        return self._answer(requests.get(f"{self.url}/{path}", headers=self._headers, timeout=30))

    def _answer(self, response: requests.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        return dict(response.json())


def long_winded(folder: Path) -> Path:
    """The demo model with a longer context than it was trained for: what it says there is nonsense, and goes on."""
    key = b"llama.context_length" + struct.pack("<I", 4)  # a 32-bit number follows
    data = MODEL.read_bytes()
    at = data.index(key) + len(key)
    file = folder / "long.gguf"
    file.write_bytes(data[:at] + struct.pack("<I", LONG) + data[at + 4 :])
    return file


def endless(question: str) -> dict[str, Any]:
    """A job whose answer ends only when its tokens are used up."""
    values = read_header(MODEL).values
    ends = {str(value): -1000.0 for name, value in values.items() if name.endswith(("eos_token_id", "eot_token_id"))}
    said = [{"role": "user", "content": question}]
    return {"messages": said, "logit_bias": ends, "max_new_tokens": LONG, "temperature": 0}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEndpoint]:
    """A strict endpoint, which answers as RunPod's does, with the environment of the first worker's template."""
    folder = tmp_path_factory.mktemp("first")
    model = long_winded(folder)
    env = {
        "GGML_REPO": str(model.parent),
        "GGML_FILE": model.name,
        "GGML_CONTEXT": str(LONG),
        "GGML_TYPE": "llama",
        "GGML_LAYERS": "32",
        "GGML_REVISION": "main",
        "GGML_PARALLEL": "2",
    }
    with LocalEndpoint(folder / "data", endpoints={NAME: env}, strict=True) as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: LocalEndpoint) -> Iterator[Client]:
    with Client(endpoint.url, NAME, endpoint.key) as client:
        yield client


def test_the_first_workers_session(endpoint: LocalEndpoint) -> None:
    session = Session(endpoint)
    submitted = session.post("run", {"input": {"prompt": PROMPT, "stream": False, "temperature": 0}})
    assert submitted == {"id": submitted["id"], "status": "IN_QUEUE"}
    until(lambda: session.get(f"status/{submitted['id']}")["status"] == "COMPLETED")
    answer = session.get(f"stream/{submitted['id']}")
    (piece,) = answer["stream"]
    assert answer == {"status": "COMPLETED", "stream": [{"output": piece["output"]}]}
    assert "four" in piece["output"]


def test_the_first_workers_session_while_the_job_runs(endpoint: LocalEndpoint) -> None:
    session = Session(endpoint)
    job_id = session.post("run", {"input": {**endless("What is a job?"), "stream": False}})["id"]
    until(lambda: session.get(f"status/{job_id}")["status"] == "IN_PROGRESS")
    assert session.get(f"stream/{job_id}?wait=1000") == {"status": "IN_PROGRESS", "stream": []}
    assert session.post(f"cancel/{job_id}", {}) == {"id": job_id, "status": "CANCELLED"}


def test_a_job_as_the_first_workers_space_sends_it(endpoint: LocalEndpoint) -> None:
    session = Session(endpoint)
    unset = dict.fromkeys(("top_k", "top_p", "temperature", "repetition_penalty", "last_n_tokens"))
    given = {**unset, "seed": -1, "batch_size": 8, "threads": -1, "stop": ["</s>"], "max_new_tokens": 300}
    job_id = session.post("run", {"input": {**given, "prompt": "USER: What is Pilotlight?\nASSISTANT:"}})["id"]
    text, status = "", ""
    while status != "COMPLETED":
        answer = session.get(f"stream/{job_id}")
        text += "".join(piece["output"] for piece in answer["stream"])
        status = answer["status"]
    assert "Pilotlight" in text


def test_the_status_of_a_finished_job_holds_what_was_streamed(client: Client) -> None:
    job_id = client.submit({"prompt": PROMPT, "temperature": 0})
    streamed = "".join(client.stream(job_id))
    assert "".join(client.status(job_id)["output"]) == streamed
    assert "four" in streamed


def test_the_worker_imports_no_torch(endpoint: LocalEndpoint) -> None:
    (pid,) = endpoint.pools[NAME].running().values()
    libraries = Path(f"/proc/{pid}/maps").read_text()
    assert "xllamacpp" in libraries
    assert "libtorch" not in libraries


def test_two_at_once_are_not_mixed_and_one_can_be_cancelled(client: Client) -> None:
    asked = ["How many corners does a square have?", "How many corners does a triangle have?"]
    ids = [client.submit(endless(question)) for question in asked]
    streams = [client.stream(job_id) for job_id in ids]
    for _ in range(3):
        assert all(next(stream) for stream in streams)
    assert [client.status(job_id)["status"] for job_id in ids] == ["IN_PROGRESS", "IN_PROGRESS"]
    assert client.cancel(ids[0])["status"] == "CANCELLED"
    for _ in range(3):
        assert next(streams[1])
    third = client.run({"prompt": PROMPT, "stream": False, "temperature": 0})  # in the place that the first one left
    assert "four" in third[0]
    assert client.status(ids[1])["status"] == "IN_PROGRESS"
    client.cancel(ids[1])
    until(lambda: client.health()["workers"]["idle"] == 1)


def test_answers_side_by_side_are_the_answers_alone(client: Client) -> None:
    asked = [f"How many corners do {n} squares have?" for n in ("two", "three")] + [
        "What is a lane?",
        "Is a circle round?",
    ]
    inputs = [{"messages": [{"role": "user", "content": q}], "temperature": 0, "stream": False} for q in asked]
    alone = [client.run(given)[0] for given in inputs]
    ids = [client.submit(given) for given in inputs * 3]
    assert [client.wait(job_id)[0] for job_id in ids] == alone * 3


def test_a_prompt_too_long_says_both_numbers(client: Client) -> None:
    job_id = client.submit({"prompt": "square " * LONG})
    until(lambda: client.status(job_id)["status"] == "FAILED")
    error = client.status(job_id)["error"]
    assert error.startswith("invalid_input: the prompt has ")
    assert f" tokens, and a job here may have {LONG} " in error


def test_a_damaged_file_is_named_and_its_worker_takes_no_job(tmp_path: Path) -> None:
    file = tmp_path / "model.q8_0.bin"
    file.write_bytes(MODEL.read_bytes()[:-1000])
    env = {"GGML_REPO": str(tmp_path), "GGML_FILE": file.name}
    with pytest.raises(InsufficientCapacity) as said, LocalEndpoint(tmp_path / "data", endpoints={NAME: env}):
        pass
    assert "download it again" in str(said.value)
    assert file.name in str(said.value)
