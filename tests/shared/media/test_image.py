import base64
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.decode import decode_image
from shared.media.fetch import Fetcher
from shared.media.image import (
    ImageInput,
    encode_image,
    pixels_sha256,
    preview_data_url,
    read_image,
)
from shared.media.source import MediaLimits, data_url, media_inputs
from shared.schemas import ImageFormat
from tests.shared.media.loopback import loopback, reply

LIMITS = MediaLimits(max_bytes=1_000_000, max_pixels=1_000_000, max_frames=100, max_seconds=10)
FETCHER = Fetcher(LIMITS.max_bytes, 20)


class Inner(BaseModel):
    mask: ImageInput | None = None


class Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: ImageInput
    others: list[ImageInput] = []
    pair: tuple[ImageInput, ImageInput] | None = None
    inner: Inner = Inner()
    strength: float = Field(0.5)


def drawn(width: int = 48, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PNG = encode_image(drawn(), "png")
BASE64 = base64.b64encode(PNG).decode()


def problem_of(value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Asked.model_validate({"image": value})
    return caught.value.errors(include_input=False)[0]["msg"]


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:image/png;charset=utf-8;BASE64,{BASE64}",
        f"data:;base64,{BASE64}",
        BASE64,
        f"\n{BASE64}\n",
        base64.encodebytes(PNG).decode(),
    ],
)
def test_reads_data_urls_and_base64(text: str) -> None:
    image = Asked.model_validate({"image": text}).image
    image.load(FETCHER, LIMITS)

    assert np.array_equal(np.asarray(read_image(image)), np.asarray(drawn()))
    assert not image.truncated


def test_reads_the_bytes_of_an_upload() -> None:
    given = Asked.model_validate({"image": PNG}).image
    given.load(FETCHER, LIMITS)
    assert np.array_equal(np.asarray(read_image(given)), np.asarray(drawn()))


def test_reads_a_url_once() -> None:
    with loopback({"/cat.png": reply(200, PNG)}) as server:
        image = Asked.model_validate({"image": server.url("/cat.png?sig=secret")}).image
        assert server.seen == []

        for _ in range(2):
            image.load(Fetcher(LIMITS.max_bytes, 20, server.netloc), LIMITS)

        assert len(server.seen) == 1
        assert read_image(image).size == (48, 32)
        assert "secret" not in repr(image)


def test_takes_a_decoded_picture_from_another_pipeline() -> None:
    image = Asked(image=ImageInput(drawn())).image
    same = Asked.model_validate({"image": drawn()}).image
    image.load(FETCHER, LIMITS)

    assert np.array_equal(np.asarray(read_image(image)), np.asarray(drawn()))
    assert image.as_record() == same.as_record() == {"pixels_sha256": pixels_sha256(drawn())}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "the image is empty"),
        ("  \n", "the image is empty"),
        ("data:image/png;base64,", "the image is empty"),
        ("file:///etc/passwd", "file: URLs are not read"),
        ("FILE:/etc/passwd", "FILE: URLs are not read"),
        ("s3://bucket/cat.png", "s3: URLs are not read"),
        ("javascript:alert(1)", "javascript: URLs are not read"),
        ("data:image/svg+xml,<svg/>", "this data URL is not read"),
        ("http://", "names no host"),
        ("https://user:hunter2@example.com/x", "credentials"),
        ("a cat, please!", "neither a data URL, valid base64, nor an http(s) URL"),
        ("/tmp/cat.png", "neither a data URL"),
        ("abc", "neither a data URL"),
        ("data:image/png;base64,%%%", "neither a data URL"),
        ("\u4e2d\u6587", "neither a data URL"),
        (7, "as a string"),
        ({"url": "x"}, "as a string"),
    ],
)
def test_refuses_what_is_not_an_image_source(value: object, problem: str) -> None:
    message = problem_of(value)

    assert problem in message
    assert "hunter2" not in message


def test_the_schema_is_a_string_with_its_forms() -> None:
    schema = Asked.model_json_schema()["properties"]

    assert schema["image"] == {
        "title": "Image",
        "type": "string",
        "format": "image",
        "description": "Data URL, base64, or http(s) URL of a PNG, JPEG, WEBP, GIF, BMP, TIFF image.",
    }
    assert schema["others"]["items"]["format"] == "image"


def test_neither_repr_nor_json_shows_the_content() -> None:
    asked = Asked.model_validate({"image": BASE64})
    before = repr(asked) + asked.model_dump_json()
    asked.image.load(FETCHER, LIMITS)

    assert BASE64[20:40] not in before + repr(asked) + asked.model_dump_json()
    assert f"{len(PNG)} bytes" in before
    assert "48 x 32 pixels" in repr(asked)


def test_the_record_is_hash_and_size_of_the_file() -> None:
    asked = Asked.model_validate({"image": BASE64})
    asked.image.load(FETCHER, LIMITS)
    record = {"sha256": hashlib.sha256(PNG).hexdigest(), "bytes": len(PNG)}

    assert asked.image.as_record() == record
    assert asked.model_dump(mode="json")["image"] == record


def test_more_bytes_than_the_limit_are_refused() -> None:
    image = ImageInput(BASE64)

    with pytest.raises(MediaTooLarge, match=r"the image is 4\.\d+ kB; the limit is 1 kB \(MAX_MEDIA_BYTES\)"):
        image.load(FETCHER, replace(LIMITS, max_bytes=1000))


def test_more_pixels_than_the_limit_are_refused() -> None:
    with pytest.raises(MediaTooLarge, match="MAX_IMAGE_PIXELS"):
        ImageInput(BASE64).load(FETCHER, replace(LIMITS, max_pixels=1000))


def test_text_in_base64_is_not_an_image() -> None:
    with pytest.raises(InvalidInput, match="not an image"):
        ImageInput(base64.b64encode(b"I am a letter").decode()).load(FETCHER, LIMITS)


def test_a_cut_file_is_flagged() -> None:
    image = ImageInput(base64.b64encode(PNG[: len(PNG) // 2]).decode())
    image.load(FETCHER, LIMITS)

    assert image.truncated
    assert read_image(image).size == (48, 32)


def test_a_handler_may_change_the_picture_it_reads() -> None:
    image = ImageInput(drawn())
    read_image(image).paste("black", (0, 0, 48, 32))

    assert np.array_equal(np.asarray(read_image(image)), np.asarray(drawn()))


def test_reading_before_loading_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuntimeError, match="not loaded"):
        read_image(ImageInput(BASE64))


def test_finds_images_in_lists_tuples_and_nested_models() -> None:
    one, two, three, four, five = (ImageInput(BASE64) for _ in range(5))
    asked = Asked(image=one, others=[two], pair=(three, four), inner=Inner(mask=five))

    assert media_inputs(asked) == [one, two, three, four, five]
    assert media_inputs(Inner()) == []


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_encodes_what_it_says(image_format: ImageFormat) -> None:
    data = encode_image(drawn(), image_format)

    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.size) == (image_format.upper(), (48, 32))
    assert encode_image(drawn(), image_format) == data


def test_encodes_transparency_on_white_and_without_metadata() -> None:
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.info["icc_profile"] = b"a profile of somebody"

    data = encode_image(picture, "jpeg")

    assert decode_image(data, 1000).image.getpixel((8, 8)) == (255, 255, 255)
    assert b"a profile of somebody" not in data


def test_the_hash_of_pixels_is_its_documented_formula() -> None:
    picture = Image.new("RGB", (2, 1), (1, 2, 3))

    assert pixels_sha256(picture) == hashlib.sha256(b"RGB 2x1\n\x01\x02\x03\x01\x02\x03").hexdigest()


def test_the_hash_of_pixels_is_one_for_all_lossless_files() -> None:
    def stored(image_format: str, **options: object) -> Image.Image:
        file = io.BytesIO()
        drawn().save(file, image_format, **options)
        return decode_image(file.getvalue(), 10_000).image

    hashes = {pixels_sha256(stored(f)) for f in ("PNG", "BMP", "TIFF")}
    assert hashes | {pixels_sha256(stored("WEBP", lossless=True, exact=True))} == {pixels_sha256(drawn())}
    assert pixels_sha256(drawn(32, 48)) != pixels_sha256(drawn(48, 32))


def test_a_data_url_holds_type_and_base64() -> None:
    assert data_url(b"abc", "image/png") == "data:image/png;base64,YWJj"


@pytest.mark.parametrize("max_bytes", [64_000, 8_000, 3_000])
def test_a_preview_fits_its_limit_and_keeps_the_shape(max_bytes: int) -> None:
    url = preview_data_url(drawn(1024, 512), max_bytes)
    small = decode_image(base64.b64decode(url.partition(",")[2]), 1_000_000).image

    assert len(url) <= max_bytes
    assert small.width == 2 * small.height


def test_a_small_picture_is_not_enlarged_for_its_preview() -> None:
    url = preview_data_url(drawn(40, 30))

    assert decode_image(base64.b64decode(url.partition(",")[2]), 10_000).image.size == (40, 30)


def test_a_preview_that_cannot_fit_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no preview fits"):
        preview_data_url(drawn(), 100)
