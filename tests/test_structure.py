"""Which folder may import which: arrows point one way."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLOUD_SDKS = {"runpod", "modal", "gradio"}


def imports(folder: str) -> list[tuple[str, str]]:
    """(file, module) of every import below a folder, also of those inside functions."""
    found = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [(_name(file), alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found += [(_name(file), node.module), *((_name(file), f"{node.module}.{a.name}") for a in node.names)]
    return found


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_shared_knows_no_cloud_no_handler_and_no_platform() -> None:
    foreign = {"handlers", "platforms", "ui_space"} | CLOUD_SDKS
    assert [(file, m) for file, m in imports("shared") if m.split(".")[0] in foreign] == []


def test_handlers_know_no_platform_and_no_other_handler() -> None:
    foreign = {"handlers", "platforms", "ui_space"} | CLOUD_SDKS
    files = [(file, m) for file, m in imports("handlers") if m.split(".")[0] in foreign]
    assert files == []


@pytest.mark.parametrize("platform", ["runpod", "local", "container"])
def test_no_platform_imports_another(platform: str) -> None:
    others = {"runpod", "local", "modal", "container"} - {platform}
    wrong = [
        (f, m) for f, m in imports(f"platforms/{platform}") for o in others if f"{m}.".startswith(f"platforms.{o}.")
    ]
    assert wrong == []


def test_the_web_page_imports_nothing_of_ours_and_only_what_it_installs() -> None:
    known = sys.stdlib_module_names | {"ui", "gradio", "requests", "yaml", "cryptography", "PIL"}
    assert [(file, m) for file, m in imports("ui_space") if m.split(".")[0] not in known] == []


# A room of shared may import those before it.
LAYERS = [
    "errors settings timestamps",
    "logs",
    "job device capabilities hardware",
    "schemas media",
    "models openai",
    "jobs",
    "lane backlog metrics",
    "context receipts plan",
    "results nested",
    "nodes",
    "outgoing",
    "preparation ahead",
    "nesting",
    "runner",
    "readiness",
    "telemetry",
    "about",
]


def test_shared_is_layered() -> None:
    level = {room: n for n, rooms in enumerate(LAYERS) for room in rooms.split()}
    wrong = []
    for file, module in imports("shared"):
        parts = module.split(".")
        if parts[0] != "shared" or len(parts) < 2 or file.count("/") == 0:
            continue
        here = Path(file).parts[1].removesuffix(".py")
        if here in level and parts[1] in level and level[parts[1]] > level[here]:
            wrong.append((file, module))
    assert wrong == []


def test_every_room_of_shared_has_a_level() -> None:
    rooms = {f.stem for f in (ROOT / "shared").iterdir() if f.stem not in ("__init__", "__pycache__")}
    assert rooms == {room for layer in LAYERS for room in layer.split()}


@pytest.mark.parametrize("package", ["shared", "shared/models", "shared/media", "shared/jobs", "platforms"])
def test_package_files_hold_a_docstring_and_no_code(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        _name(file)
        for folder in ("shared", "handlers", "platforms", "templates", "bench", "docs", "ui_space")
        for file in (ROOT / folder).rglob("*.py")
        if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []
