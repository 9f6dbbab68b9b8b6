"""Signed statements of what a job ran: model, parameters, seeds, output hashes, worker, times."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import InvalidInput
from shared.schemas import ModelSource, Output
from shared.timestamps import rfc3339

VERSION = 1
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Times:
    """When a job was taken, got the device, and left it; seconds since the epoch."""

    accepted: float
    started: float
    ended: float

    def as_dict(self) -> dict[str, str]:
        """In RFC 3339, UTC, to the millisecond."""
        return {name: rfc3339(seconds) for name, seconds in self.__dict__.items()}


class Signer:
    """Signs receipts with Ed25519 (RFC 8032); without a key it says so in the receipt."""

    def __init__(self, key: str | None) -> None:
        self._key = _private_key(key) if key else None
        self.public_key = _public_key(self._key) if self._key else None
        """The key that verifies, 32 bytes in base64."""

    def sign(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """The receipt with `signed`, and `public_key` and `signature` (base64) where there is a key."""
        if self._key is None:
            return {**receipt, "signed": False}
        body = {**receipt, "signed": True, "public_key": self.public_key}
        return {**body, "signature": base64.b64encode(self._key.sign(canonical(body))).decode()}


def make(
    *,
    job_id: str,
    pipeline: str,
    model: dict[str, str] | None,
    params: dict[str, Any],
    outputs: list[Output],
    steps: int,
    times: Times,
    worker: str,
    image_digest: str | None,
    software: dict[str, str],
    within: Sequence[dict[str, Any]] = (),
    node: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The receipt of one finished job, not yet signed; `params` are what was run, with media as hashes.

    `within` are the pipelines that this one ran, in their order: pipeline, model, parameters. `node` is who ran it in
    this worker's place, with its own receipt.
    """
    return {
        "version": VERSION,
        "job_id": job_id,
        "pipeline": pipeline,
        "model": model,
        "params": params,
        "seed": outputs[0].seed if outputs else None,
        "steps": steps,
        **({"within": list(within)} if within else {}),
        **({"node": node} if node else {}),
        "pixels": sum(o.pixels for o in outputs),
        "outputs": [
            {
                "sha256": o.sha256,
                **({"pixels_sha256": o.pixels_sha256} if o.pixels_sha256 else {}),
                "media_type": o.media_type,
                "bytes": len(o.data),
                "seed": o.seed,
            }
            for o in outputs
        ],
        "worker": worker,
        "image_digest": image_digest,
        "software": software,
        "times": times.as_dict(),
    }


def verify(receipt: dict[str, Any], public_key: str) -> bool:
    """Whether the receipt was signed by the owner of `public_key` (base64) and not changed since."""
    body = {k: v for k, v in receipt.items() if k != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
        key.verify(base64.b64decode(receipt.get("signature", "")), canonical(body))
    except (InvalidSignature, ValueError):
        return False
    return body.get("public_key") == public_key


def canonical(body: dict[str, Any]) -> bytes:
    """The bytes that are signed: JSON with sorted keys and no spaces, UTF-8."""
    return _encoder.encode(body).encode()


def _private_key(key: str) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(key, validate=True))
    except ValueError as exc:
        raise InvalidInput("RECEIPT_KEY must be an Ed25519 private key: 32 bytes in base64") from exc


def _public_key(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def model_record(source: ModelSource | None) -> dict[str, str] | None:
    """A model as receipts name it."""
    return {"id": source.model_id, "revision": source.revision} if source else None
