"""Checks a receipt's Ed25519 signature (RFC 8032), and that it is of these files."""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def check(receipt: dict[str, Any], public_key: str | None, files: list[bytes]) -> tuple[bool | None, str]:
    """Whether the receipt holds, None where that cannot be told, and why in a few words.

    `public_key` is the endpoint's, 32 bytes in base64, as config.yml has it: a key that only the receipt names proves
    nothing.
    """
    if not receipt.get("signed"):
        return None, "not signed"
    if public_key is None:
        return None, "signed; config.yml has no receipt_key to verify it with"
    if receipt.get("public_key") != public_key or not _is_signed(receipt, public_key):
        return False, "the signature does not match"
    hashes = {output.get("sha256") for output in receipt.get("outputs", [])}
    if not {hashlib.sha256(data).hexdigest() for data in files} <= hashes:
        return False, "signed, but for other files"
    return True, "signature verified"


def _is_signed(receipt: dict[str, Any], public_key: str) -> bool:
    body = {name: value for name, value in receipt.items() if name != "signature"}
    signed = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
        key.verify(base64.b64decode(receipt.get("signature", "")), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
