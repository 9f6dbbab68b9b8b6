"""Overlapping tiles: they cover a picture, and their shares add up to it."""

import pytest
import torch

from shared.models.seams import tiles

MULTIPLE, CONTEXT = 16, 32


@pytest.mark.parametrize("size", [(64, 64), (128, 640), (480, 272), (512, 512), (1088, 96)])
@pytest.mark.parametrize("most_pixels", [1, 160 * 160, 300 * 300, 2**30])
def test_tiles_that_draw_what_they_see_make_the_picture(size: tuple[int, int], most_pixels: int) -> None:
    picture, drawn = torch.rand(1, 3, *size), torch.zeros(1, 3, *size)
    for tile in tiles(*size, most_pixels=most_pixels, multiple=MULTIPLE, context=CONTEXT):
        tile.blend(drawn, tile.cut(picture))
    assert torch.allclose(drawn, picture, atol=1e-5)


def test_tiles_fit_into_the_pixels_given_and_onto_the_networks_grid() -> None:
    parts = tiles(1088, 1920, most_pixels=300 * 300, multiple=MULTIPLE, context=CONTEXT)
    seen = [torch.empty(1, 1, 1088, 1920, device="meta")[..., t.rows.seen, t.columns.seen].shape[2:] for t in parts]
    assert max(height * width for height, width in seen) <= 300 * 300
    assert all(side % MULTIPLE == 0 for shape in seen for side in shape)


def test_a_picture_that_fits_is_one_tile() -> None:
    (only,) = tiles(256, 256, most_pixels=256 * 256, multiple=MULTIPLE, context=CONTEXT)
    assert (only.rows.seen, only.columns.seen) == (slice(0, 256), slice(0, 256))


def test_a_tile_counts_for_nothing_at_the_edge_of_what_it_sees() -> None:
    """There it does not know what lies beside."""
    first, second = tiles(64, 256, most_pixels=64 * 192, multiple=MULTIPLE, context=CONTEXT)
    assert first.columns.weights()[-CONTEXT // 2 :].max() == 0
    assert second.columns.weights()[: CONTEXT // 2].max() == 0
    assert first.columns.weights()[0] == second.columns.weights()[-1] == 1


def test_seams_are_gradual() -> None:
    """Tiles that draw different things differ by little from one pixel to the next."""
    drawn = torch.zeros(1, 1, 64, 256)
    for shade, tile in enumerate(tiles(64, 256, most_pixels=64 * 192, multiple=MULTIPLE, context=CONTEXT)):
        tile.blend(drawn, torch.full_like(tile.cut(drawn), float(shade)))
    assert drawn[0, 0, 0, 0] == 0
    assert drawn[0, 0, 0, -1] == 1
    assert drawn.diff(dim=3).max() <= 1.01 / CONTEXT
