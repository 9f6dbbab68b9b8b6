"""The shipped upscaler draws held-out scenes closer to the truth and sharper than bicubic, and spoils no others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.models.upscaler import Enlarger
from templates.demo_models import measure, measure_upscale
from templates.demo_models.judge import look
from templates.demo_models.measure_upscale import (
    CHECKPOINT,
    Score,
    begin,
    clean,
    edge_px,
    enlarged,
    held_out,
    psnr_db,
)
from templates.demo_models.train import large_pictures, shapes
from templates.demo_models.train.shapes import Scene


@pytest.fixture(scope="module")
def demo() -> Enlarger:
    return begin(CHECKPOINT)


def test_held_out_scenes_come_out_closer_and_sharper_than_by_bicubic(demo: Enlarger) -> None:
    assert measure_upscale.score_scenes(demo, held_out(6), clean).reaches_bar()


def test_twice_as_large_is_better_than_bicubic_too() -> None:
    score = measure_upscale.score_scenes(begin(CHECKPOINT, 2), held_out(3), measure_upscale.half)
    assert score.psnr_db > score.bicubic_psnr_db


@pytest.mark.parametrize("draw", [large_pictures.crowd, large_pictures.strokes])
def test_other_pictures_are_not_spoiled(demo: Enlarger, draw: large_pictures.Draw) -> None:
    score = measure_upscale.score_drawings(demo, draw, 2)
    assert score.psnr_db > score.bicubic_psnr_db - 0.5


@pytest.mark.parametrize("shade", [0, 20, 128, 255])
def test_flat_colours_stay_what_they_are(demo: Enlarger, shade: int) -> None:
    flat = np.full((24, 24, 3), (shade, 128, 255 - shade), np.uint8)
    made, _ = enlarged(demo, flat)
    assert np.abs(made.astype(int) - flat[0, 0]).max() <= 2


def test_what_the_text_to_image_model_draws_gets_sharper_and_stays_what_it_is(demo: Enlarger) -> None:
    scenes = [Scene("circle", "red", "white"), Scene("square", "yellow", "blue", "large")]
    drawn = measure.load(measure.CHECKPOINT, "cpu").draw([shapes.caption(scene) for scene in scenes])
    for image, scene in zip(drawn, scenes, strict=True):
        made, bicubic = enlarged(demo, np.asarray(image))
        assert replace(look(Image.fromarray(made).reduce(4)), fit=0) == replace(look(image), fit=0)
        true = shapes.draw(scene, width=256, height=256)
        assert edge_px(made, true, scene) < edge_px(bicubic, true, scene)


def test_the_widths_of_edges_are_those_that_were_drawn() -> None:
    """The judge of sharpness, on edges of known width: a ramp of n pixels is 0.8 n from a tenth to nine tenths."""
    scene = Scene("square", "white", "black")
    paint, ground = (np.array(shapes.COLOURS[name], np.float32) for name in ("white", "black"))

    def ramp(width: int) -> shapes.Pixels:
        share = np.clip((np.arange(256) - 128) / width + 0.5, 0, 1)[None, :, None].repeat(256, 0)
        return np.round(ground + share * (paint - ground)).astype(np.uint8)

    assert edge_px(ramp(20), ramp(1), scene) == pytest.approx(16, abs=1)
    assert edge_px(ramp(4), ramp(1), scene) == pytest.approx(3, abs=1)


def test_psnr_is_that_of_the_definition() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr_db(grey, black) == pytest.approx(20 * np.log10(5), abs=1e-4)


def test_is_one_small_file_of_weights() -> None:
    files = [file for file in Path(CHECKPOINT).rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"model.safetensors", "figures.json", "README.md"}
    assert sum(file.stat().st_size for file in files) < 2_000_000


def test_the_figures_beside_the_weights_reach_the_bar() -> None:
    figures = json.loads((CHECKPOINT / "figures.json").read_text())
    score = Score(**figures["held-out scenes"])
    assert score.pictures >= 90
    assert score.reaches_bar()
