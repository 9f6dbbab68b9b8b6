"""What Livepeer's node reads of a container besides its answers: when it takes it on, and every five seconds."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from tests.platforms.harness import until
from tests.platforms.livepeer import answers, wire
from tests.platforms.livepeer.conftest import TOKEN
from tests.platforms.livepeer.container import Container
from tests.platforms.livepeer.test_requests import LLM, PROMPT


def test_who_was_told_loading_is_told_idle(managed: Container) -> None:
    """A warm container that was LOADING comes back to the node's pool by IDLE, and by nothing else."""
    assert managed.seen[-1] == ("IDLE" if "LOADING" in managed.seen else "OK")
    assert set(managed.seen) <= {"LOADING", managed.seen[-1]}


def test_it_is_ok_while_a_request_is_open(managed: Container) -> None:
    """IDLE during a request would make the node send a second one."""
    body = wire.json_body({**LLM, "stream": True})
    with ThreadPoolExecutor(1) as threads:
        seen: list[str] = []
        sent: Future[wire.Answer] = threads.submit(wire.post, managed.url, "/llm", body)
        until(lambda: managed.health()["status"] == "OK")
        while not sent.done():
            seen.append(managed.health()["status"])
    assert sent.result().status == 200
    assert set(seen) <= {"OK", "IDLE"}  # IDLE once it is answered, and this thread has not heard of it yet


def test_it_is_ok_while_a_request_is_read(managed: Container) -> None:
    """Its body may take a while to come, and the node counts from its first byte."""
    body = wire.json_body(LLM)
    halted = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(wire.post, managed.url, "/llm", body, halt=halted)
        until(lambda: managed.health()["status"] == "OK")
        halted.set()
        assert sent.result().status == 200


def test_the_container_says_which_model_it_is(managed: Container) -> None:
    read = answers.Version.model_validate_json(wire.get(managed.url, "/version").data)
    assert (read.pipeline, read.model_id) == ("llm", "demo/text-generation")


def test_hardware_is_a_map_of_cards_even_where_there_is_none(managed: Container) -> None:
    info = answers.HardwareInformation.model_validate_json(wire.get(managed.url, "/hardware/info").data)
    stats = answers.HardwareStats.model_validate_json(wire.get(managed.url, "/hardware/stats").data)
    assert (info.pipeline, stats.model_id) == ("llm", "demo/text-generation")
    assert info.gpu_info.keys() == stats.gpu_stats.keys()


def test_what_is_asked_of_an_external_container(external: Container) -> None:
    """With the token on every request; with several pipelines, it says which one by none of these."""
    assert answers.HealthCheck.model_validate_json(wire.get(external.url, "/health", TOKEN).data).status != "ERROR"
    assert answers.Version.model_validate_json(wire.get(external.url, "/version", TOKEN).data)
    assert answers.HardwareInformation.model_validate_json(wire.get(external.url, "/hardware/info", TOKEN).data)


def test_every_document_is_there_with_a_slash_too(external: Container) -> None:
    for path in ("/health/", "/version/", "/hardware/info/", "/hardware/stats/"):
        assert wire.get(external.url, path, TOKEN).status == 200
    assert wire.post(external.url, "/text-to-image/", wire.json_body({"prompt": PROMPT}), TOKEN).status == 200
