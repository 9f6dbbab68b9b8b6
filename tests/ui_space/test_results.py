"""Results: files, what there is to say about them, and what their receipts prove."""

import base64
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.receipts import Signer
from ui import config, receipts, results, within
from ui.endpoint import Endpoint
from ui.failures import Failure
from ui.shelf import Shelf

SIGNER = Signer(base64.b64encode(bytes(range(32))).decode())


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


def receipt_of(*files: bytes) -> dict[str, Any]:
    outputs = [{"sha256": hashlib.sha256(data).hexdigest()} for data in files]
    return SIGNER.sign({"version": 1, "params": {"prompt": "ein Kreis, rot ist er, größer"}, "outputs": outputs})


def endpoint(**more: Any) -> Endpoint:
    return Endpoint(config.Endpoint("e", "e", (), key="k", base_url="http://127.0.0.1:1", **more))


def job(**output: Any) -> dict[str, Any]:
    return {"id": "j1", "status": "COMPLETED", "delayTime": 250, "executionTime": 2000, "output": output}


def test_a_receipt_is_verified_with_the_key_of_the_configuration() -> None:
    assert receipts.check(receipt_of(png()), SIGNER.public_key, [png()]) == (True, "signature verified")


@pytest.mark.parametrize(
    ("change", "key", "files", "holds"),
    [
        ({"version": 2}, SIGNER.public_key, [png()], False),
        ({"signature": "AAAA"}, SIGNER.public_key, [png()], False),
        ({}, base64.b64encode(bytes(32)).decode(), [png()], False),
        ({}, SIGNER.public_key, [png("blue")], False),
        ({}, None, [png()], None),
        ({"signed": False}, SIGNER.public_key, [png()], None),
    ],
)
def test_only_a_true_receipt_of_these_files_holds(
    change: dict[str, Any], key: str | None, files: list[bytes], holds: bool | None
) -> None:
    assert receipts.check({**receipt_of(png()), **change}, key, files)[0] is holds


def test_a_result_has_files_facts_and_a_checked_receipt(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    done = job(images=[{"url": url, "seed": 7}], metrics={"run_s": 1.5, "queue_s": 0.1}, receipt=receipt_of(png()))
    shelf = Shelf(tmp_path)
    result = results.collect(
        endpoint(price_per_s=0.0002, receipt_key=SIGNER.public_key), done, "a red circle", "USD", shelf
    )
    (made,) = result.of("image")
    assert Path(made.path).read_bytes() == png()
    assert (made.caption, result.seed) == ("a red circle, seed 7", 7)
    facts = dict(result.facts)
    assert facts["size"].startswith("8 x 6 pixels")
    assert facts["cost, about"].startswith("0.0004 USD (2.0 s")
    assert (facts["ran"], facts["of which"], facts["receipt"]) == ("2 s", "run 2 s", "✓ signature verified")


def test_json_and_files_of_any_shape_are_told_apart(tmp_path: Path) -> None:
    csv = f"data:text/csv;charset=utf-8;base64,{base64.b64encode(b'a,b').decode()}"
    picture = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    done = job(table={"url": csv}, shots=[picture], long="x" * 3000, at="http://127.0.0.1:9/x.csv", images=["?"])
    result = results.collect(endpoint(), done, "a table", "USD", Shelf(tmp_path))
    (table,), (shot,) = result.of("file"), result.of("image")
    assert Path(table.path).read_bytes() == b"a,b"
    assert table.path.endswith("-table.csv")
    assert Path(shot.path).read_bytes() == png()
    assert result.rest["table"] == {"url": within.PLACE}
    assert (result.rest["at"], result.rest["images"]) == ("http://127.0.0.1:9/x.csv", ["?"])
    assert len(result.rest["long"]) < 2100


@pytest.mark.parametrize(
    ("output", "rest"),
    [
        (7, {"output": 7}),
        ([1, 2], {"output": [1, 2]}),
        ([{"a": 1}, {"a": 2}], {"output": [{"a": 1}, {"a": 2}]}),
        ({"text": {"a": 1}, "metrics": "fast", "receipt": "none"}, {"text": {"a": 1}}),
        (None, None),
        ("words", None),
    ],
)
def test_output_of_other_workers_is_shown_as_it_is(tmp_path: Path, output: Any, rest: Any) -> None:
    done = {"id": "j1", "status": "COMPLETED", "output": output}
    result = results.collect(endpoint(), done, "", "USD", Shelf(tmp_path))
    assert (result.rest, result.text) == (rest, "words" if output == "words" else "")


def test_what_is_no_picture_or_no_base64_is_no_traceback(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    done = job(images=[{"url": "data:image/png;base64,AAAA"}])
    assert dict(results.collect(endpoint(), done, "", "USD", shelf).facts)["size"] == "3 bytes"
    with pytest.raises(Failure, match="not in base64"):
        results.collect(endpoint(), job(images=[{"url": "data:image/png;base64,A"}]), "", "USD", shelf)


def test_a_receipt_without_files_is_verified_by_its_signature(tmp_path: Path) -> None:
    done = job(receipt=receipt_of())
    result = results.collect(endpoint(receipt_key=SIGNER.public_key), done, "", "USD", Shelf(tmp_path))
    assert dict(result.facts)["receipt"] == "✓ signature verified"


def test_pieces_of_a_text_are_one_text() -> None:
    assert results.whole(["a ", "b", {"usage": {"n": 1}}]) == {"text": "a b", "usage": {"n": 1}}


def test_a_caption_cannot_become_html() -> None:
    result = results.Result("j", facts=(("receipt", "<script>"),))
    assert "<script>" not in results.details(result)


def test_the_shelf_lets_the_oldest_go(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, max_bytes=25)
    first = shelf.put(b"a" * 10, "a.png")
    os.utime(first, (1, 1))
    second, third = shelf.put(b"b" * 10, "b.png"), shelf.put(b"c" * 10, "c.png")
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True)
