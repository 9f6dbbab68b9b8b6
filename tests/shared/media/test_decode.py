import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import InvalidInput, MediaTooLarge
from shared.media.decode import decode_image, flatten

LIMIT = 1_000_000


def noise(width: int = 96, height: int = 64) -> Image.Image:
    """A picture that no format can shorten much, and without black rows."""
    pixels = np.random.default_rng(7).integers(60, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def file_of(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds no pixels."""
    fields = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def rows_alike(one: Image.Image, other: Image.Image) -> int:
    return int((np.asarray(one) == np.asarray(other)).all(axis=(1, 2)).sum())


def close(image: Image.Image, at: tuple[int, int], colour: tuple[int, int, int], within: int) -> bool:
    return bool(np.allclose(np.asarray(image)[at[1], at[0]], colour, atol=within))


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_decodes_lossless_formats_to_the_same_pixels(image_format: str) -> None:
    picture = noise()

    decoded = decode_image(file_of(picture, image_format), LIMIT)

    assert not decoded.truncated
    assert decoded.image.mode == "RGB"
    assert np.array_equal(np.asarray(decoded.image), np.asarray(picture))


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "GIF"])
def test_decodes_lossy_formats(image_format: str) -> None:
    decoded = decode_image(file_of(Image.new("RGB", (40, 30), (200, 20, 20)), image_format), LIMIT)

    assert decoded.image.size == (40, 30)
    assert np.allclose(np.asarray(decoded.image), (200, 20, 20), atol=6)


@pytest.mark.parametrize(
    "data", [b"hello, I am a text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", bytes(100), b"GIF89a"]
)
def test_rejects_bytes_that_are_not_an_image(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not an image that can be read"):
        decode_image(data, LIMIT)


def test_rejects_nothing() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        decode_image(b"", LIMIT)


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "PDF", "JPEG2000"])
def test_rejects_formats_that_are_not_on_the_list(image_format: str) -> None:
    with pytest.raises(InvalidInput, match="PNG, JPEG, WEBP, GIF, BMP, TIFF"):
        decode_image(file_of(noise(32, 32), image_format), LIMIT)


def test_a_hundred_megapixels_are_refused_from_the_header() -> None:
    with pytest.raises(MediaTooLarge) as caught:
        decode_image(png_header(10_000, 10_000), 50_000_000)
    assert caught.value.message == ("the image has 10000 x 10000 pixels; the limit is 50,000,000 (MAX_IMAGE_PIXELS)")


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_pillows_own_limit_never_shows(side: int) -> None:
    with pytest.raises(MediaTooLarge, match="MAX_IMAGE_PIXELS"):
        decode_image(png_header(side, side), 100_000_000)


def test_the_limit_itself_is_allowed() -> None:
    data = file_of(noise(100, 50), "PNG")

    assert decode_image(data, 5_000).image.size == (100, 50)
    with pytest.raises(MediaTooLarge):
        decode_image(data, 4_999)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_a_file_cut_in_its_pixels_loads_as_far_as_it_goes(image_format: str) -> None:
    whole = file_of(noise(), image_format, **({"interlace": 0} if image_format == "GIF" else {}))

    decoded = decode_image(whole[: len(whole) * 3 // 4], LIMIT)

    assert decoded.truncated
    assert 16 <= rows_alike(decoded.image, decode_image(whole, LIMIT).image) < 64


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_in_its_header_is_refused(image_format: str) -> None:
    with pytest.raises(InvalidInput):
        decode_image(file_of(noise(), image_format)[:10], LIMIT)


def test_threads_do_not_disturb_each_other_over_cut_files() -> None:
    whole = file_of(noise(), "JPEG")
    cut = whole[: len(whole) * 2 // 3]

    with ThreadPoolExecutor(8) as pool:
        flags = list(pool.map(lambda n: decode_image(cut if n % 2 else whole, LIMIT).truncated, range(200)))

    assert flags == [bool(n % 2) for n in range(200)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_turns_the_picture_as_its_exif_says(image_format: str, orientation: int) -> None:
    stored = Image.new("RGB", (32, 16), "white")
    stored.paste((200, 0, 0), (0, 0, 16, 8))  # the first quarter in storage order
    exif = Image.Exif()
    exif[0x0112] = orientation

    decoded = decode_image(file_of(stored, image_format, exif=exif), LIMIT).image

    width, height = decoded.size
    assert (width, height) == ((32, 16) if orientation < 5 else (16, 32))
    red_corner = {
        1: (2, 2),
        2: (width - 3, 2),
        3: (width - 3, height - 3),
        4: (2, height - 3),
        5: (2, 2),
        6: (width - 3, 2),
        7: (width - 3, height - 3),
        8: (2, height - 3),
    }[orientation]
    assert close(decoded, red_corner, (200, 0, 0), 12)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_kept_and_flattens_to_white(image_format: str) -> None:
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 10, 20))
    picture.paste((255, 0, 0, 128), (10, 0, 20, 10))
    options = {"lossless": True} if image_format == "WEBP" else {}

    kept = decode_image(file_of(picture, image_format, **options), LIMIT).image
    assert kept.mode == "RGBA"
    assert kept.getpixel((15, 5)) == (255, 0, 0, 128)

    decoded = flatten(kept)
    assert decoded.getpixel((5, 5)) == (0, 0, 255)
    assert decoded.getpixel((15, 15)) == (255, 255, 255)
    assert close(decoded, (15, 5), (255, 127, 127), 1)


def test_transparency_of_a_palette_flattens_to_white() -> None:
    picture = Image.new("P", (10, 10), 0)
    picture.putpalette([0, 0, 0, 0, 255, 0])
    picture.putpixel((3, 3), 1)

    for data in (file_of(picture, "PNG", transparency=0), file_of(picture, "GIF", transparency=0)):
        decoded = flatten(decode_image(data, LIMIT).image)
        assert decoded.getpixel((0, 0)) == (255, 255, 255)
        assert decoded.getpixel((3, 3)) == (0, 255, 0)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(image_format: str) -> None:
    frames = [Image.new("RGB", (24, 24), colour) for colour in ((220, 0, 0), (0, 220, 0), (0, 0, 220))]
    data = file_of(frames[0], image_format, save_all=True, append_images=frames[1:])

    assert close(decode_image(data, LIMIT).image, (12, 12), (220, 0, 0), 8)


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    shades = np.array([[0, 0x40FF, 0x8000, 0xFFFF]], dtype=np.uint16)

    decoded = decode_image(file_of(Image.fromarray(shades), "PNG"), LIMIT).image

    assert [decoded.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 0x40, 0x80, 0xFF)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image_format = "TIFF" if mode == "CMYK" else "PNG"

    assert decode_image(file_of(noise().convert(mode), image_format), LIMIT).image.mode == "RGB"


def test_metadata_of_a_stranger_stays_behind() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"

    decoded = decode_image(file_of(noise(), "JPEG", exif=exif, comment=b"secret", dpi=(72, 72)), LIMIT).image

    assert decoded.info == {}
    assert b"where I live" not in file_of(decoded, "PNG")


def test_damaged_files_end_in_invalid_input_or_in_a_picture() -> None:
    random = np.random.default_rng(11)
    for image_format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = file_of(noise(24, 24), image_format)
        for _ in range(150):
            data = bytearray(whole)
            for at in random.integers(0, min(len(data), 400), 4):
                data[at] = random.integers(0, 256)
            try:
                assert decode_image(bytes(data), LIMIT).image.mode in ("RGB", "RGBA")
            except (InvalidInput, MediaTooLarge):
                continue


def test_alpha_that_hides_nothing_is_dropped() -> None:
    assert decode_image(file_of(noise().convert("RGBA"), "PNG"), LIMIT).image.mode == "RGB"


def test_flatten_leaves_its_argument_alone() -> None:
    picture = noise()
    picture.info["comment"] = "kept"

    assert flatten(picture) is not picture
    assert picture.info == {"comment": "kept"}
