"""The environment, read once by an entry point and passed down as an argument."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from shared.errors import InvalidInput


class Settings(BaseModel):
    """What one machine is told by its environment; each field is the variable of the same name in capitals."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pipeline: str | None = Field(None, description="Serve this pipeline only, such as `text-to-image`.")
    model_id: str | None = Field(None, description="The model of `PIPELINE`: a hub id, `demo/...`, or a folder.")
    models: Path | None = Field(None, description="A models.json of your own in place of the one in templates/.")
    model_dir: Path | None = Field(
        None, description="The volume with the Hugging Face cache; read and written first."
    )
    models_max_gb: float | None = Field(
        None, gt=0, description="What downloaded models may take together; the least recently used unpinned ones go."
    )
    allow_any_model: bool = Field(False, description="Let a job name any model of the hub, not only the catalog's.")
    hf_token: SecretStr | None = Field(None, description="Token for gated models of the Hugging Face hub.")
    ggml_repo: str | None = Field(
        None, description="Serve this one model for text generation: a hub id, a folder, or a GGUF file."
    )
    ggml_file: str | None = Field(
        None, description="The GGUF file of `GGML_REPO`; the first part of one in parts. Not needed where it has one."
    )
    ggml_revision: str = Field("main", description="The commit or branch of `GGML_REPO`.")
    ggml_type: str | None = Field(None, description="Accepted for the first worker's templates; a GGUF file says it.")
    ggml_layers: int | None = Field(
        None, ge=-1, description="Layers of a GGUF model on the GPU; by free memory when not set, or -1."
    )
    ggml_context: int | None = Field(
        None, ge=256, description="Tokens that one text job may have, prompt and answer; 4096, or less by the model."
    )
    ggml_parallel: int | None = Field(
        None, ge=1, le=64, description="Text jobs decoded together; 1 on a CPU, by free memory (up to 8) on a GPU."
    )
    handlers: Path | None = Field(None, description="A folder of handlers kept outside this repository.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where models run.")

    auth_token: SecretStr | None = Field(
        None, description="`serve` and the image: the key that requests to the container must carry."
    )
    queue_max: int = Field(8, ge=0, description="Requests that may wait for the container's device; more get 429.")
    serve_open: bool = Field(
        False, description="Set in the image: serve on any address without `AUTH_TOKEN`, with a warning."
    )
    livepeer_statuses: bool = Field(
        False, description="The container answers errors by 400, 401, 422 and 500 alone, which Livepeer's node reads."
    )
    host: str = Field("0.0.0.0", description="Where the image's container listens.")  # noqa: S104 a container's own
    port: int = Field(8000, ge=0, le=65535, description="And its port.")

    take_ahead_s: float = Field(
        0.3, ge=0, description="Ask for the next jobs when less than this much work is left; 0 = never ahead."
    )
    job_timeout_s: float = Field(
        600, gt=0, description="Longest run of one job, counted from its start on the device."
    )
    load_timeout_s: float = Field(
        1800, gt=0, description="A worker on which one model takes longer to load, its download not counted, ends."
    )
    hang_s: float = Field(
        60, gt=0, description="A cancelled job that does not yield the device for this long ends the worker."
    )
    drain_s: float = Field(30, gt=0, description="After SIGTERM, finish what was taken within this time.")

    max_media_bytes: int = Field(64 * 2**20, gt=0, description="Largest input file.")
    max_image_pixels: int = Field(
        50_000_000, gt=0, description="Largest input image or frame, in pixels, before decoding."
    )
    max_video_frames: int = Field(36_000, gt=0, description="Longest input video, in frames.")
    max_video_seconds: float = Field(600, gt=0, description="Longest input video, in seconds.")
    fetch_timeout_s: float = Field(
        30, gt=0, description="Longest time for fetching one input or delivering one output."
    )
    allow_private_hosts: str = Field(
        "", description="`host:port,...` that jobs may name although the address is private."
    )

    bucket_endpoint_url: str | None = Field(None, description="S3 endpoint for results too large to go inline.")
    bucket_name: str | None = Field(None, description="Bucket, where `BUCKET_ENDPOINT_URL` does not end in its name.")
    bucket_access_key_id: SecretStr | None = Field(None, description="Its access key.")
    bucket_secret_access_key: SecretStr | None = Field(None, description="Its secret.")
    files_url: str | None = Field(None, description="Set by the local endpoint: where its workers put large results.")
    files_token: SecretStr | None = Field(None, description="Set by the local endpoint: the token for `FILES_URL`.")

    receipt_key: SecretStr | None = Field(
        None, description="Ed25519 private key, 32 bytes in base64; without it receipts are not signed."
    )
    image_digest: str | None = Field(None, description="Digest of the container image, recorded in receipts.")
    runpod_pod_id: str = Field("local", description="Set by RunPod: this worker's id, recorded in receipts.")
    modal_task_id: str | None = Field(None, description="Set by Modal: this container's id, recorded in receipts.")
    runpod_webhook_get_job: str | None = Field(
        None, description="Set by RunPod: where jobs are taken; without it the SDK runs in one of its local modes."
    )

    pilotlight_url: str | None = Field(
        None, description="Command line: the endpoint's URL, `http://host:port/v2/name`."
    )
    pilotlight_api_key: SecretStr | None = Field(None, description="Command line and `up`: the endpoint's key.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")

    @property
    def worker_id(self) -> str:
        """This worker's id, as its platform calls it."""
        return self.modal_task_id or self.runpod_pod_id

    @field_validator("hf_token")
    @classmethod
    def _is_a_token(cls, given: SecretStr | None) -> SecretStr | None:
        """As a file or a form gave it, without the space around it; the rest must fit into a header."""
        token = given.get_secret_value().strip() if given else ""
        if any(not "!" <= character <= "~" for character in token):
            raise ValueError("it has spaces or letters that no token has; copy it again")
        return SecretStr(token) if token else None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the variables; an empty one counts as not set.

        Raises:
            InvalidInput: naming each variable whose value cannot be used.
        """
        given: dict[str, Any] = {name: env[name.upper()] for name in cls.model_fields if env.get(name.upper())}
        try:
            return cls(**given)
        except ValidationError as exc:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in exc.errors(include_input=False))
            raise InvalidInput(f"environment: {wrong}") from exc


def visible_cards(env: Mapping[str, str] = os.environ) -> str | None:
    """CUDA's own CUDA_VISIBLE_DEVICES; unlike an empty variable of ours, an empty one says something: no card."""
    return env.get("CUDA_VISIBLE_DEVICES")


def variable(name: str, env: Mapping[str, str] = os.environ) -> str | None:
    """A variable that the user names on the command line, as `--key-env` does."""
    return env.get(name) or None


def inherited(**more: str) -> dict[str, str]:
    """The environment for a child process: ours, and more."""
    return {**os.environ, **more}
