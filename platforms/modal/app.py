"""Pilotlight on Modal: every pipeline behind one URL, on cards that cost nothing while nobody asks.

    modal secret create api-auth-token AUTH_TOKEN="$(openssl rand -hex 32)"
    modal deploy -m platforms.modal.app
    modal run -m platforms.modal.app::download_model --model-id stabilityai/sd-turbo

docs/modal.md tells what it costs, how to send jobs and what each setting does.
"""

# Deployed, and imported in every container: what this file needs at the top is Modal's client and nothing else, and
# no `from __future__ import annotations`, under which modal.parameter() does not see its types.

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import modal

from platforms.modal.own import HOME, OURS, ROOT, Own, of_deployer

MINUTES = 60
DAY = 24 * 60 * MINUTES  # Modal lets nothing run for longer

# ## Settings
#
# Which models there are, on which card and for how long each may run is in `templates/models.json`.

APP = "pilotlight"
MAX_CONTAINERS = 4  # of each model; what runs away with your money ends here
IDLE = 5 * MINUTES  # a container waits for so long, at the price of its card, and spares the next job a cold start
REGION: str | None = None  # such as "eu", where jobs are run and answered; Modal asks 1.15 to 1.75 times the price
GPU_SNAPSHOTS = False  # Modal's alpha: the card's memory is in the snapshot too, and restored with it

# ## Storage
#
# Weights are on a volume, which inference cannot write; compiled kernels are on another, which it can. Jobs are
# remembered in a Dict, for as long as Modal keeps their results: 7 days.

models = modal.Volume.from_name("models", create_if_missing=True)
compiled = modal.Volume.from_name("pilotlight-cache", create_if_missing=True)
board = modal.Dict.from_name("pilotlight-jobs", create_if_missing=True)

# ## Secrets
#
# `api-auth-token` is what clients send. The others may be empty: a token of the Hugging Face hub for models with
# terms, and further variables of the README's list, such as RECEIPT_KEY and BUCKET_ENDPOINT_URL. A deployment makes
# them, so that they are attached on every machine alike: Modal refuses a container that has others than its deployer.

token = modal.Secret.from_name("api-auth-token", required_keys=["AUTH_TOKEN"])
huggingface = modal.Secret.from_name("huggingface")
settings = modal.Secret.from_name("pilotlight-settings")

if modal.is_local() and "modal" in Path(sys.argv[0]).with_suffix("").parts[-2:]:  # `modal` or `python -m modal`
    for name in ("huggingface", "pilotlight-settings"):
        modal.Secret.objects.create(name, {}, allow_existing=True)

# ## Images
#
# The card's image is the one that the container and the RunPod worker are built from; the web function has a small
# one, for it only reads requests. Our code is added last, so that a change of it builds nothing anew, and with it
# yours: the folder of HANDLERS and the list of MODELS, where they are set as you deploy.

own = of_deployer() if modal.is_local() else Own()
ENVIRONMENT = {
    "MODEL_DIR": "/models",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
    "TRITON_CACHE_DIR": "/cache/triton",
    "CUDA_CACHE_PATH": "/cache/cuda",
    "MODAL_MAX_THROTTLE_WAIT": "10",  # seconds until a full queue is said; Modal's client would wait for ever
}


# What the Dockerfile reads, in a folder of its own: Modal looks at every file of the folder that it is given.
build = tempfile.TemporaryDirectory()
if modal.is_local():
    for file in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / file, build.name)


def with_code(image: modal.Image) -> modal.Image:
    """The image with our packages, the list of models and the demo weights, and with what is yours."""
    return own.uploaded_to(
        image.env({**ENVIRONMENT, **own.env})
        .add_local_python_source(*OURS)
        .add_local_dir(ROOT / "templates", f"{HOME}/templates", ignore=["**/__pycache__", "**/train"])
    )


card_image = with_code(
    own.installed_in(
        modal.Image.from_dockerfile(ROOT / "Dockerfile-base", context_dir=build.name)
        .entrypoint([])  # NVIDIA's prints a page
        .add_local_file(ROOT / "LICENSE", "/opt/pilotlight/LICENSE", copy=True)
        .run_commands("pip install --no-deps --no-build-isolation /opt/pilotlight")  # our version, for the receipts
    )
)
web_image = with_code(
    modal.Image.debian_slim(python_version="3.12").uv_pip_install(
        requirements=[str(ROOT / "platforms" / "modal" / "requirements-web.txt")]
    )
)

app = modal.App(APP, include_source=False)

# ## The engine
#
# One class runs every job. A container of it serves one model: Modal starts them for each pair of pipeline and model
# alone, on the card of the model's entry. What takes the time of a cold start, the imports and the reading of the
# weights, happens before the memory snapshot, on a machine without a card; after a restore the weights go to the card
# and the random numbers begin anew.


@app.cls(
    image=card_image,
    gpu="L4",
    volumes={"/models": models.with_mount_options(read_only=True), "/cache": compiled},
    secrets=[settings],
    timeout=20 * MINUTES,
    startup_timeout=20 * MINUTES,
    scaledown_window=IDLE,
    max_containers=MAX_CONTAINERS,
    region=REGION,
    enable_memory_snapshot=True,
    experimental_options={"enable_gpu_snapshot": GPU_SNAPSHOTS},
)
class Engine:
    """The jobs of one model."""

    pipeline: str = modal.parameter()
    model_id: str = modal.parameter(default="")

    @modal.enter(snap=True)
    def read(self) -> None:
        """Before the snapshot."""
        from platforms.modal.engine import worker_of

        self.worker = worker_of(self.pipeline, self.model_id, board, models)
        self.worker.before_snapshot(on_card=GPU_SNAPSHOTS)

    @modal.enter(snap=False)
    def place(self) -> None:
        """After the snapshot, and after each restore of it."""
        self.worker.after_snapshot()

    @modal.method()
    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job that the web function queued; returns how it ended."""
        return await self.worker.run(job, modal.current_function_call_id() or "")


# ## The web function
#
# The same routes as everywhere, from a container without a card: `/v2/media/run` and what follows it, and
# `/text-to-image` and its like for short jobs. A request without the token, and a job that could not run, end here.


@app.function(image=web_image, secrets=[token, settings], scaledown_window=IDLE, timeout=DAY, region=REGION)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def web() -> Any:
    """The application at `https://<workspace>--pilotlight-web.modal.run`."""
    from platforms.modal.engine import web_of

    return web_of(APP, board, models)


# ## Webhooks
#
# A call of this function waits beside each job that names a webhook, and tells of its end: the job's own container
# may not live to do so, and would cost its card meanwhile.


@app.function(image=web_image, secrets=[settings], timeout=DAY, region=REGION)
@modal.concurrent(max_inputs=100)
async def webhook(endpoint: str, job_id: str, created_ms: int, job_input: dict[str, Any]) -> None:
    """Call the job's webhook when it has ended."""
    from platforms.modal.engine import webhooks_of

    if not await webhooks_of(board).follow(endpoint, job_id, created_ms, job_input):
        await webhook.spawn.aio(endpoint, job_id, created_ms, job_input)


# ## Models
#
# What writes to the volume: nothing else does, and no container waits for a download.


@app.function(image=card_image, volumes={"/models": models}, secrets=[huggingface], timeout=4 * 60 * MINUTES)
def download_model(model_id: str, revision: str = "", filename: str = "") -> None:
    """Download a model to the volume; `filename` is the one file to take, such as a GGUF quantisation."""
    from platforms.modal.downloads import download

    download(model_id, revision or None, filename or None)
    models.commit()


@app.function(image=card_image, volumes={"/models": models}, secrets=[huggingface], timeout=12 * 60 * MINUTES)
def download_all() -> None:
    """Download every model of `templates/models.json`."""
    from platforms.modal.downloads import download_listed

    download_listed(models.commit)
