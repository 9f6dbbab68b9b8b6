"""Handlers and models of one's own: what of them is uploaded, and what is not deployed. test_app.py runs them."""

from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from platforms.modal.own import ELSEWHERE, HOME, ON_WEB, ROOT, Own, of_deployer
from tests.platforms.modal.conftest import APP
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import App, Stock

MINE = f"{ELSEWHERE}/handlers"


@pytest.fixture(scope="module")
def app(own_deployed: Stock) -> App:
    (app,) = own_deployed.apps.values()
    return app


def test_only_what_a_handler_may_need_is_uploaded(app: App) -> None:
    uploaded = {f"{MINE}/{name}" for name in ("nap.py", "meet.py", "words/list.txt", "requirements.txt")}
    for name in ("Engine.*", "web"):
        files = app.functions[name].files
        assert {path for path in files if path.startswith(f"{ELSEWHERE}/")} == {*uploaded, f"{ELSEWHERE}/models.json"}
        assert b"hush" not in files.values()


def test_each_container_is_told_of_them(app: App) -> None:
    told = {"HANDLERS": MINE, "MODELS": f"{ELSEWHERE}/models.json"}
    for name in ("Engine.*", "web", "download_all"):
        assert told.items() <= app.functions[name].image_env.items()


def test_what_they_need_is_installed_beside_the_cards(app: App) -> None:
    install = f"RUN pip install --no-cache-dir -c /opt/pilotlight/requirements.lock -r {ELSEWHERE}/requirements.txt"
    assert install in app.functions["Engine.*"].image_commands
    assert install not in app.functions["web"].image_commands


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "HANDLERS: no pipeline is in"),
        ("import cv2.dnn\nimport json", "mine.py imports cv2 at its top"),
        ("from torch import nn", "mine.py imports torch at its top"),
        ("def run(:", "mine.py is no Python"),
    ],
)
def test_handlers_that_the_web_function_could_not_import_are_not_deployed(
    tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SystemExit, match=words):
        of_deployer({"HANDLERS": str(tmp_path)})


def test_what_a_handler_imports_later_or_beside_itself_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import numpy\nfrom PIL import Image\ndef load():\n    import cv2\n")
    assert of_deployer({"HANDLERS": str(tmp_path), "MODELS": ""}) == Own(tmp_path)
    below = Own(ROOT / "tests" / "platforms" / "extra_handlers")
    assert below.env["HANDLERS"] == f"{HOME}/tests/platforms/extra_handlers"


@pytest.mark.parametrize(("text", "words"), [("{}", "no list"), ("[", "no list"), (None, "there is no file")])
def test_a_list_of_models_that_is_none_is_not_deployed(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "models.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit, match=words):
        of_deployer({"MODELS": str(file)})


def test_a_folder_that_is_not_there_fails_the_deploy_in_a_line(tmp_path: Path) -> None:
    with Plane(tmp_path) as plane:
        done = plane.modal("deploy", "-m", APP, HANDLERS="elsewhere")
    assert done.returncode == 1
    assert done.stderr == "HANDLERS: there is no folder 'elsewhere'; name one with pipelines, as seen from here\n"


def test_what_may_be_imported_is_what_the_web_function_has() -> None:
    listed = (ROOT / "platforms" / "modal" / "requirements-web.txt").read_text().splitlines()
    installed = {line.partition("==")[0].lower().replace("_", "-") for line in listed}
    homes = packages_distributions()
    assert {n for n in ON_WEB if not {h.lower().replace("_", "-") for h in homes[n]} & installed} == set()
