"""Receipts: what they say, and that nobody can change it."""

import base64
from typing import Any

import pytest

from shared import receipts
from shared.errors import InvalidInput
from shared.schemas import Output

KEY = base64.b64encode(bytes(range(32))).decode()
OUTPUT = Output(b"file", "image/png", "png", "aa", "bb", pixels=4096, seed=7, nsfw=False)


def receipt(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "job_id": "job",
        "pipeline": "text-to-image",
        "model": {"id": "demo/text-to-image", "revision": "sha256-1"},
        "params": {"prompt": "a red circle", "seed": 7},
        "outputs": [OUTPUT],
        "steps": 8,
        "times": receipts.Times(1_700_000_000.0, 1_700_000_001.25, 1_700_000_002.0),
        "worker": "local",
        "image_digest": None,
        "software": {"pilotlight": "0"},
    }
    return receipts.make(**{**given, **changes})


def test_says_what_was_run_and_what_came_out() -> None:
    made = receipt()
    assert made["seed"] == 7
    assert made["pixels"] == 4096
    assert made["outputs"] == [
        {"sha256": "aa", "pixels_sha256": "bb", "media_type": "image/png", "bytes": 4, "seed": 7}
    ]
    assert made["times"]["started"] == "2023-11-14T22:13:21.250Z"


def test_a_text_has_a_hash_and_no_pixels() -> None:
    text = Output(b"words", "text/plain", "txt", "cc", None, pixels=0, seed=None, nsfw=False)
    made = receipt(outputs=[text])
    assert made["outputs"] == [{"sha256": "cc", "media_type": "text/plain", "bytes": 5, "seed": None}]
    assert made["pixels"] == 0


def test_a_signed_receipt_verifies_with_the_public_key() -> None:
    signer = receipts.Signer(KEY)
    signed = signer.sign(receipt())
    assert signed["signed"] is True
    assert signer.public_key is not None
    assert receipts.verify(signed, signer.public_key)


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"params": {"prompt": "a blue circle"}}, {"signed": False}, {"signature": "AAAA"}, {"extra": 1}],
)
def test_any_change_breaks_the_signature(change: dict[str, Any]) -> None:
    signer = receipts.Signer(KEY)
    assert not receipts.verify({**signer.sign(receipt()), **change}, str(signer.public_key))


def test_another_key_does_not_verify() -> None:
    other = receipts.Signer(base64.b64encode(bytes(32)).decode())
    assert not receipts.verify(receipts.Signer(KEY).sign(receipt()), str(other.public_key))


def test_without_a_key_the_receipt_says_so() -> None:
    unsigned = receipts.Signer(None).sign(receipt())
    assert unsigned["signed"] is False
    assert "signature" not in unsigned


@pytest.mark.parametrize("key", ["sesame", base64.b64encode(b"short").decode()])
def test_a_malformed_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidInput, match="RECEIPT_KEY") as caught:
        receipts.Signer(key)
    assert key not in str(caught.value)
