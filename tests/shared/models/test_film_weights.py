"""FILM's weights, from every file that they come in."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from shared.errors import ModelUnavailable
from shared.models.film import FILM, Sizes
from shared.models.film_weights import load
from shared.schemas import ModelSource
from tests.shared.models.films import SMALL, random_film
from tests.shared.models.test_film import at, pictures

AS_PUBLISHED = replace(SMALL, pyramid_levels=7)


def source(path: Path, **options: Any) -> ModelSource:
    return ModelSource("ours/film", "local", path, options)


def allowed(path: Path) -> ModelSource:
    return source(path, pickles={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})


def same(one: FILM, other: FILM) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def write(folder: Path, film: FILM, **config: Any) -> Path:
    save_file(film.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or asdict(film.sizes)))
    return folder


def test_reads_safetensors_with_a_configuration_beside_them(tmp_path: Path) -> None:
    film = random_film()
    loaded = load(source(write(tmp_path, film)))
    assert loaded.sizes == SMALL
    assert same(loaded, film)
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    first, last = pictures()
    assert torch.equal(loaded(first, last, at(0.5)), film(first, last, at(0.5)))


def test_without_a_configuration_there_are_as_many_levels_as_in_the_published_network(tmp_path: Path) -> None:
    save_file(random_film().state_dict(), tmp_path / "film.safetensors")
    assert load(source(tmp_path / "film.safetensors")).sizes == AS_PUBLISHED


def test_reads_the_names_that_comfyui_gives_the_published_weights(tmp_path: Path) -> None:
    """huggingface.co/Comfy-Org/frame_interpolation has `convs.0.0.conv.weight` for `convs.0.0.0.weight`."""
    state = random_film().state_dict()
    renamed = {re.sub(r"\.0\.(weight|bias)$", r".conv.\1", name): weight for name, weight in state.items()}
    assert "extract.extract_sublevels.convs.0.0.conv.weight" in renamed
    assert "fuse.output_conv.weight" in renamed
    save_file(renamed, tmp_path / "film_net_fp16.safetensors")
    assert same(load(source(tmp_path)), random_film())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_reads_a_torchscript_archive_in_half_precision(tmp_path: Path) -> None:
    film, (first, last) = random_film(AS_PUBLISHED), pictures(2, 64, 64)
    jit: Any = torch.jit  # it is not typed
    jit.save(jit.trace(film, (first, last, at(0.5)), check_trace=False).half(), tmp_path / "film.pt")
    loaded = load(allowed(tmp_path / "film.pt"))
    assert same(loaded, film.half())
    assert next(loaded.parameters()).dtype == torch.float16


def test_reads_a_state_dict(tmp_path: Path) -> None:
    torch.save(random_film().state_dict(), tmp_path / "film.pt")
    assert same(load(allowed(tmp_path / "film.pt")), random_film())


def test_a_pickle_is_read_only_where_its_hash_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "film.pt"
    torch.save(random_film().state_dict(), path)
    with pytest.raises(ModelUnavailable, match=r"film\.pt is a pickle that models\.json does not allow"):
        load(source(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"film\.pt is another pickle than the one that models\.json allows"):
        load(source(path, pickles={"film.pt": "0" * 64}))


class Harmful:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.sprung,)


def test_an_allowed_pickle_still_runs_nothing(tmp_path: Path) -> None:
    torch.save({"weights": Harmful(tmp_path / "sprung")}, tmp_path / "film.pt")
    with pytest.raises(ModelUnavailable, match=r"film\.pt cannot be read as a state dict"):
        load(allowed(tmp_path / "film.pt"))
    assert not (tmp_path / "sprung").exists()


def test_safetensors_are_taken_before_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "film.pt").write_bytes(b"a pickle")
    assert load(source(write(tmp_path, random_film()))).sizes == SMALL


def test_a_folder_without_weights_or_with_two_files_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"has no file of weights; it needs a \.safetensors or a \.pt"):
        load(source(tmp_path))
    write(tmp_path, random_film())
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ModelUnavailable, match=r"several files of weights \(model\.safetensors, other\.safetensors\)"
    ):
        load(source(tmp_path))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelUnavailable, match=r"other\.safetensors holds weights, but not of FILM"):
        load(source(tmp_path))


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    state = random_film().state_dict()
    del state["fuse.output_conv.bias"]
    save_file(state, tmp_path / "film.safetensors")
    with pytest.raises(ModelUnavailable, match="but not of FILM"):
        load(source(tmp_path))


@pytest.mark.parametrize("config", [{"levels": 4}, {"pyramid_levels": "many"}, {"pyramid_levels": None}])
def test_a_configuration_that_does_not_say_how_many_levels_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(ModelUnavailable, match="does not say `pyramid_levels`"):
        load(source(write(tmp_path, random_film(), **config)))


@pytest.mark.parametrize("levels", [-3, 0, 1, 2, 13, 40, 10**6])
def test_levels_that_no_such_network_has_are_refused(tmp_path: Path, levels: int) -> None:
    with pytest.raises(ModelUnavailable, match=rf"says {levels} `pyramid_levels`; .* between 3 and 12"):
        load(source(write(tmp_path, random_film(), pyramid_levels=levels)))


@pytest.mark.parametrize("levels", [3, 12])
def test_fewer_and_more_levels_than_the_published_networks_are_taken(tmp_path: Path, levels: int) -> None:
    assert load(source(write(tmp_path, random_film(), pyramid_levels=levels))).sizes.pyramid_levels == levels


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "film.safetensors").write_bytes(b"\0" * 4)
    with pytest.raises(ModelUnavailable, match=r"film\.safetensors"):
        load(source(tmp_path))


def test_the_published_sizes_are_the_defaults() -> None:
    assert Sizes().filters == 64
    assert Sizes().pyramid_levels == 7
