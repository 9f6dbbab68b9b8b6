"""Models in folders and files of the user's own, with revisions of what they hold."""

from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.folders import HASHED_WHOLE
from tests.shared.models.folders import without, write_cached, write_files
from tests.shared.models.stores import OLD, PARTS, TEXT, entry, never, store, text_entry


def test_a_folder_is_a_model_with_a_revision_of_its_content(tmp_path: Path) -> None:
    ours, copy = write_files(tmp_path / "ours"), write_files(tmp_path / "copy")
    source = store(tmp_path).ensure(entry(str(ours)))
    assert source.path == ours
    assert source.revision.startswith("sha256-")
    assert store(tmp_path).ensure(entry(str(copy))).revision == source.revision


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json"])
def test_a_folder_with_another_content_has_another_revision(tmp_path: Path, name: str) -> None:
    ours = write_files(tmp_path / "ours")
    before = store(tmp_path).ensure(entry(str(ours))).revision
    (ours / name).write_bytes(b'{"different": 1}')
    assert store(tmp_path).ensure(entry(str(ours))).revision != before


def test_a_folder_that_is_not_whole_is_refused_without_its_path(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", without("unet/config.json"))
    (ours / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="is not here, or is not whole"):
        store(tmp_path).ensure(entry(str(ours)), on_download=never)


def test_a_part_that_is_missing_is_not_taken_for_a_model(tmp_path: Path) -> None:
    write_cached(tmp_path, TEXT, OLD, {PARTS[0]: b"GGUF"})
    assert store(tmp_path).find(text_entry(TEXT, PARTS[0])) is None
    assert store(tmp_path).find(text_entry(TEXT)) is None
    ours = write_files(tmp_path / "ours", {PARTS[0]: b"GGUF"})
    for model_id in (ours, ours / PARTS[0]):
        assert store(tmp_path).find(text_entry(str(model_id))) is None


def test_a_gguf_file_is_a_model_of_its_own_or_by_its_folder(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", {"a.gguf": b"GGUF a"})
    alone = store(tmp_path).ensure(text_entry(str(ours / "a.gguf"), slots=2))
    folder = store(tmp_path).ensure(text_entry(str(ours), slots=2))
    named = store(tmp_path).ensure(text_entry(str(ours), "a.gguf"))
    assert (alone.path, folder.path, named.path) == (ours / "a.gguf", ours, ours / "a.gguf")
    assert alone.revision == folder.revision == named.revision
    assert alone.options == folder.options == {"slots": 2}


def test_the_revision_of_a_model_in_parts_is_of_all_of_them(tmp_path: Path) -> None:
    ours = write_files(tmp_path / "ours", dict.fromkeys(PARTS, b"GGUF"))
    before = store(tmp_path).ensure(text_entry(str(ours / PARTS[0]))).revision
    (ours / PARTS[1]).write_bytes(b"GGUF, another")
    assert store(tmp_path).ensure(text_entry(str(ours / PARTS[0]))).revision != before


def test_a_large_file_is_sampled_for_its_revision(tmp_path: Path) -> None:
    """A file of holes: as long as a large model, and no longer on the disk than what is written to it."""
    file = tmp_path / "large.gguf"
    revisions = []
    for place in (None, 0, HASHED_WHOLE):
        with file.open("wb") as large:
            large.truncate(HASHED_WHOLE + 1)
            if place is not None:
                large.seek(place)
                large.write(b"x")
        revisions.append(store(tmp_path).ensure(text_entry(str(file))).revision)
    assert all(revision.startswith("sampled-") for revision in revisions)
    assert len(set(revisions)) == 3
