"""The README of Livepeer's runner, command for command: its three containers, and a request to each by curl.

`docker run` is carried out as a process: with the image's own environment and command, what its `-e` say, and a
folder for its `-v`. curl is the real one. Only what no two machines share is replaced: the port, and what is in `<>`.
"""

import itertools
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.platforms.livepeer import answers
from tests.platforms.livepeer.container import Container

README = """\
docker run --name text-to-image -e PIPELINE=text-to-image -e MODEL_ID=<MODEL_ID> --gpus <GPU_IDS> -p 8000:8000 \
-v ./models:/models livepeer/ai-runner:latest
curl -X POST -H "Content-Type: application/json" localhost:8000/text-to-image -d '{"prompt":"a mountain lion"}'
docker run --name image-to-image -e PIPELINE=image-to-image -e MODEL_ID=<MODEL_ID> --gpus <GPU_IDS> -p 8000:8000 \
-v ./models:/models livepeer/ai-runner:latest
curl -X POST localhost:8000/image-to-image -F prompt="a mountain lion" -F image=@<IMAGE_FILE>
docker run --name image-to-video -e PIPELINE=image-to-video -e MODEL_ID=<MODEL_ID> --gpus <GPU_IDS> -p 8000:8000 \
-v ./models:/models livepeer/ai-runner:latest
curl -X POST localhost:8000/image-to-video -F image=@<IMAGE_FILE>
"""
COMMANDS = README.splitlines()
SESSIONS = dict(zip(COMMANDS[::2], COMMANDS[1::2], strict=True))
MODELS = {"image-to-image": "demo/text-to-image"}  # of the others the demo model bears the pipeline's name


def docker_run(command: str, model_id: str, folder: Path) -> Container:
    """Carry out a `docker run` in a folder; it maps the image's port 8000."""
    words = shlex.split(command.replace("<MODEL_ID>", model_id))
    options = set(itertools.pairwise(words))
    assert ("-p", "8000:8000") in options
    given = dict(value.split("=") for name, value in options if name == "-e")
    (volume,) = (value for name, value in options if name == "-v")
    outside, _, inside = volume.partition(":")
    assert inside == "/models"
    (folder / outside).mkdir(parents=True)
    return Container(folder, given, models=folder / outside)


def curl(command: str, port: int, image: Path) -> bytes:
    """Carry out a call of curl; returns what it prints."""
    command = command.replace("localhost:8000", f"localhost:{port}").replace("<IMAGE_FILE>", str(image))
    done = subprocess.run(shlex.split(command), capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="these are calls of curl, which this machine does not have")
@pytest.mark.parametrize("run", SESSIONS, ids=lambda run: run.split()[3])
def test_its_commands_work_as_they_stand(tmp_path: Path, picture: bytes, run: str) -> None:
    pipeline = run.split()[3]
    image = tmp_path / "picture.png"
    image.write_bytes(picture)
    with docker_run(run, MODELS.get(pipeline, f"demo/{pipeline}"), tmp_path / "host") as container:
        said = curl(SESSIONS[run], container.port, image)
        assert container.health()["open"], "it serves whoever can reach it, and does not say so"
        assert container.log.read_text().count("AUTH_TOKEN") == 1
    expected = answers.VideoResponse if pipeline == "image-to-video" else answers.ImageResponse
    expected.model_validate_json(said)
