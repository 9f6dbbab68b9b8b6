"""What a container does before its memory snapshot, and in each copy of it."""

import json
import os
import subprocess
import sys

from tests.platforms.modal.test_worker import Container
from tests.shared.runners import ROOT

WITHOUT_CARD = """
import json
from tests.shared import no_cuda
asked = no_cuda.forbid()
assert no_cuda.bites(asked)
import modal
from platforms.modal import engine
board, models = modal.Dict.from_name("jobs"), modal.Volume.from_name("models")
worker = engine.worker_of("text-to-image", "demo/text-to-image", board, models)
worker.before_snapshot(on_card=False)
print(json.dumps({"asked": asked, "read": len(worker.runner._ahead._read)}))
"""


def test_no_card_is_asked_for_before_the_snapshot() -> None:
    env = {**os.environ, "DEVICE": "", "MODAL_CONFIG_PATH": os.devnull}
    command = [sys.executable, "-c", WITHOUT_CARD]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"asked": [], "read": 1}


def test_with_the_card_in_the_snapshot_all_of_it_is_done_before() -> None:
    container = Container(pipeline="text-generation", model_id="demo/text-generation")
    container.worker.before_snapshot(on_card=True)
    assert container.worker.runner.pool.footprint()
    ready = container.worker.runner.starting.seconds()
    container.worker.after_snapshot()
    assert container.worker.runner.starting.seconds()["warm_s"] == ready["warm_s"]  # not a second time
    assert container.run({"prompt": "a", "max_tokens": 3})["status"] == "COMPLETED"


def test_a_model_that_was_missing_before_the_snapshot_is_looked_for_after_it() -> None:
    container = Container(pipeline="text-generation", model_id="no-such-owner/no-such-model")
    container.worker.before_snapshot(on_card=True)
    container.worker.after_snapshot()
    assert container.asked == ["look again", "look again"]
