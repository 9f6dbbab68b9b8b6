"""What `modal deploy` declares and uploads, from an environment that has Modal's client and nothing of ours."""

import subprocess
from pathlib import Path

import pytest
from modal_proto import api_pb2

from platforms.modal.own import HOME
from tests.platforms.modal.conftest import APP
from tests.platforms.modal.plane import COMMAND, ROOT, Plane
from tests.platforms.modal.records import App, Function, MountedVolume, Stock

MINUTES = 60
OURS = ("handlers", "shared", "platforms")
DEMO_MODEL = f"{HOME}/templates/demo_models/text-to-image/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def app(deployed: Stock) -> App:
    (app,) = deployed.apps.values()
    return app


@pytest.fixture(scope="module")
def engine(app: App) -> Function:
    return app.functions["Engine.*"]


@pytest.fixture(scope="module")
def web(app: App) -> Function:
    return app.functions["web"]


def test_deploys_from_where_the_project_is_not_installed(tmp_path: Path) -> None:
    python = COMMAND.with_name("python")
    for package in (*OURS, "templates", "pydantic", "fastapi"):
        done = subprocess.run([python, "-c", f"import {package}"], cwd=tmp_path, capture_output=True, check=False)
        assert b"ModuleNotFoundError" in done.stderr, package


def test_is_one_class_a_web_function_webhooks_and_two_downloads(app: App) -> None:
    assert (app.name, app.state) == ("pilotlight", api_pb2.APP_STATE_DEPLOYED)
    assert set(app.functions) == {"Engine.*", "web", "webhook", "download_model", "download_all"}
    assert set(app.class_ids) == {"Engine"}


def test_only_the_engine_has_a_card(app: App, engine: Function) -> None:
    assert engine.gpus == ["L4"]
    assert {name for name, function in app.functions.items() if function.gpus} == {"Engine.*"}


def test_the_engine_is_made_for_a_pipeline_and_a_model(engine: Function) -> None:
    schema = engine.definition.class_parameter_info.schema
    assert [(p.name, p.full_type.base_type) for p in schema] == [
        ("pipeline", api_pb2.PARAM_TYPE_STRING),
        ("model_id", api_pb2.PARAM_TYPE_STRING),
    ]
    assert set(engine.definition.method_definitions) == {"run"}


def test_inference_reads_models_and_writes_what_it_compiles(engine: Function) -> None:
    assert sorted(engine.volumes, key=lambda volume: volume.name) == [
        MountedVolume("models", "/models", read_only=True, commits_at_exit=True),
        MountedVolume("pilotlight-cache", "/cache", read_only=False, commits_at_exit=True),
    ]


@pytest.mark.parametrize("name", ["download_model", "download_all"])
def test_downloads_alone_write_models(app: App, name: str) -> None:
    function = app.functions[name]
    assert function.volumes == [MountedVolume("models", "/models", read_only=False, commits_at_exit=True)]
    assert {secret.name: secret.required_keys for secret in function.secrets} == {"huggingface": set()}
    assert function.definition.timeout_secs >= 60 * MINUTES


def test_the_engine_is_snapshotted_and_has_time_to_start(engine: Function) -> None:
    definition = engine.definition
    assert definition.checkpointing_enabled
    assert dict(definition.experimental_options) == {"enable_gpu_snapshot": "False"}
    assert definition.startup_timeout_secs == 20 * MINUTES
    assert definition.autoscaler_settings.max_containers > 0
    assert definition.max_concurrent_inputs <= 1  # one job at a time has the card


def test_the_web_function_is_open_to_many_and_needs_the_token(web: Function) -> None:
    definition = web.definition
    assert definition.webhook_config.type == api_pb2.WEBHOOK_TYPE_ASGI_APP
    assert definition.max_concurrent_inputs == 100
    assert definition.web_url == "https://stand-in--pilotlight-web.modal.run"
    assert web.volumes == []
    required = {secret.name: secret.required_keys for secret in web.secrets}
    assert required["api-auth-token"] == {"AUTH_TOKEN"}


def test_webhooks_wait_for_as_long_as_modal_lets_them_and_texts_may_too(app: App, web: Function) -> None:
    webhook = app.functions["webhook"]
    assert webhook.definition.timeout_secs == web.definition.timeout_secs == 24 * 60 * MINUTES
    assert webhook.definition.max_concurrent_inputs == 100
    assert [secret.name for secret in webhook.secrets] == ["pilotlight-settings"]


def test_the_engine_never_sees_the_clients_token(engine: Function) -> None:
    assert "api-auth-token" not in {secret.name for secret in engine.secrets}


def test_all_our_code_is_uploaded(app: App) -> None:
    ours = {f"{HOME}/{file.relative_to(ROOT)}" for folder in OURS for file in (ROOT / folder).rglob("*.py")}
    for function in app.functions.values():
        uploaded = function.files
        assert ours <= set(uploaded)
        assert uploaded[f"{HOME}/shared/runner.py"] == (ROOT / "shared" / "runner.py").read_bytes()


def test_models_and_demo_weights_are_uploaded(engine: Function) -> None:
    assert engine.files[f"{HOME}/templates/models.json"] == (ROOT / "templates" / "models.json").read_bytes()
    assert engine.files[DEMO_MODEL] == (ROOT / DEMO_MODEL.removeprefix(f"{HOME}/")).read_bytes()


def test_nothing_else_is_uploaded(app: App, deployed: Stock) -> None:
    for function in app.functions.values():
        assert {path.split("/")[2] for path in function.files} == {*OURS, "templates"}
        assert [path for path in function.files if "__pycache__" in path or "/train/" in path] == []
    contexts = {
        path for image in deployed.images.values() for path in deployed.mounts.get(image.context_mount_id, {})
    }
    assert {Path(path).name for path in contexts} <= {
        *("pyproject.toml", "requirements.lock", "requirements-web.txt", "LICENSE"),
    }


def test_images_pin_what_they_install(app: App, engine: Function, web: Function) -> None:
    lines = engine.image_commands
    assert lines[0].startswith("FROM nvidia/cuda:")
    assert any("-c /opt/pilotlight/requirements.lock" in line for line in lines)
    of_web = (ROOT / "platforms" / "modal" / "requirements-web.txt").read_text().splitlines()
    assert set(of_web[1:]) <= set((ROOT / "requirements.lock").read_text().splitlines())
    assert any("requirements-web.txt" in line for line in web.image_commands)
    assert {function.image_env["MODEL_DIR"] for function in app.functions.values()} == {"/models"}


def test_secrets_that_may_be_empty_are_made_so(deployed: Stock) -> None:
    made = {secret.name: secret.env for secret in deployed.secrets.values()}
    assert made["huggingface"] == {}


def test_a_second_deploy_keeps_ids_and_secrets(app: App, own_deployed: Stock) -> None:
    (again,) = own_deployed.apps.values()
    assert {name: f.id for name, f in again.functions.items()} == {name: f.id for name, f in app.functions.items()}
    kept = {secret.name: secret.env for secret in own_deployed.secrets.values()}
    assert kept["huggingface"] == {"HF_TOKEN": "hf_mine"}


def test_a_missing_secret_fails_the_deploy_with_its_name(tmp_path: Path) -> None:
    with Plane(tmp_path) as plane:
        done = plane.modal("deploy", "-m", APP)
        assert done.returncode == 1
        assert "Secret 'api-auth-token' not found in environment 'main'" in done.stderr
        assert plane.deploying.app_named("pilotlight") is None


def test_a_missing_key_fails_the_deploy_with_its_name(tmp_path: Path) -> None:
    with Plane(tmp_path) as plane:
        plane.add_secret("api-auth-token", TOKEN="misnamed")
        done = plane.modal("deploy", "-m", APP)
        assert done.returncode == 1
        assert "Secret 'api-auth-token' is missing key(s): AUTH_TOKEN" in done.stderr
        assert plane.deploying.app_named("pilotlight") is None
