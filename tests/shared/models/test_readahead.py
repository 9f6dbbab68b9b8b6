"""Reading ahead: which files, in which order, when it is worth it, and that nothing of it can end a load."""

import os
import threading
from pathlib import Path

import pytest

from shared.models import readahead
from shared.models.readahead import Done, ReadAhead, begin, finish, weights


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for n, file in enumerate(made):
        file.write_bytes(os.urandom(1000 * n + 1))
    return made


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    return available(tmp_path, 10**9)


def available(folder: Path, count: int) -> Path:
    file = folder / "meminfo"
    file.write_text(f"MemTotal: 99999999 kB\nMemAvailable:  {count // 1024} kB\n")
    return file


def yes(path: Path) -> bool:
    return True


def no(path: Path) -> bool:
    return False


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_reads_every_byte_once(files: list[Path]) -> None:
    for piece in (1, 7, 100, 10**6):
        reading = ReadAhead(files, threads=3, piece=piece)
        reading.start()
        done = reading.wait()
        assert (done.bytes, done.whole) == (3003, True)


def test_reads_in_the_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    opened: list[str] = []
    really = os.open

    def noted(path: Path, flags: int) -> int:
        opened.append(path.name)
        return really(path, flags)

    monkeypatch.setattr(os, "open", noted)
    reading = ReadAhead(files, threads=1)
    reading.start()
    reading.wait()
    assert opened == [file.name for file in files]


def test_files_that_cannot_be_read_end_nothing(files: list[Path]) -> None:
    files[1].unlink()
    reading = ReadAhead([*files, files[0].parent / "missing"])
    files[2].unlink()
    reading.start()
    done = reading.wait()
    assert (done.bytes <= 1, done.whole) == (True, False)


def test_a_file_that_shrinks_meanwhile_ends_nothing(files: list[Path]) -> None:
    reading = ReadAhead(files, piece=100)
    os.truncate(files[2], 50)
    reading.start()
    assert not reading.wait().whole


def test_no_descriptor_stays_open(files: list[Path]) -> None:
    before = set(os.listdir("/dev/fd"))  # noqa: PTH208 the names are enough
    reading = ReadAhead([*files, *files], piece=10)
    reading.start()
    reading.wait()
    assert set(os.listdir("/dev/fd")) <= before  # noqa: PTH208


def test_a_cancelled_one_ends_before_the_end(files: list[Path]) -> None:
    reading = ReadAhead(files, piece=1)
    reading.cancel()
    reading.start()
    assert reading.wait() == Done(0, 0.0, whole=False)


def test_two_that_want_the_same_files_share_one(files: list[Path], meminfo: Path) -> None:
    first = begin(files, networked=yes, meminfo=meminfo)
    assert first is not None
    assert begin(files, networked=yes, meminfo=meminfo) is first
    assert finish(files, networked=yes, meminfo=meminfo).bytes == 3003
    assert begin(files, networked=yes, meminfo=meminfo) is not first
    assert finish(files, networked=yes, meminfo=meminfo).whole


def test_one_that_nobody_began_is_begun_by_who_waits_for_it(files: list[Path], meminfo: Path) -> None:
    assert finish(files, networked=yes, meminfo=meminfo).whole


def test_a_disk_of_this_machine_is_not_read_twice(files: list[Path], meminfo: Path) -> None:
    assert begin(files, networked=no, meminfo=meminfo) is None
    assert finish(files, networked=no, meminfo=meminfo) == Done()


@pytest.mark.parametrize(("room", "worth"), [(3003, False), (3900, False), (8192, True)])
def test_what_would_not_stay_in_memory_is_not_read(files: list[Path], tmp_path: Path, room: int, worth: bool) -> None:
    meminfo = available(tmp_path, room)
    assert finish(files, networked=yes, meminfo=meminfo).whole is worth


@pytest.mark.parametrize("text", ["", "nothing", "MemAvailable: much kB"])
def test_a_system_that_does_not_tell_its_memory_is_left_alone(files: list[Path], tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert begin(files, networked=yes, meminfo=tmp_path / "meminfo") is None
    assert begin(files, networked=yes, meminfo=tmp_path / "missing") is None


def test_nothing_to_read_is_no_read_ahead(tmp_path: Path, meminfo: Path) -> None:
    assert begin([tmp_path / "missing"], networked=yes, meminfo=meminfo) is None
    assert begin([], networked=yes, meminfo=meminfo) is None


def test_a_wait_that_is_broken_off_stops_the_threads(
    files: list[Path], meminfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ReadAhead) -> Done:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReadAhead, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(files, networked=yes, meminfo=meminfo)
    monkeypatch.undo()
    for thread in threading.enumerate():
        if thread.name.startswith("read-ahead"):
            thread.join(10)
            assert not thread.is_alive()
    assert not readahead._RUNNING


def test_weights_are_read_in_the_order_in_which_they_are_loaded(tmp_path: Path) -> None:
    make(tmp_path, "model_index.json", "tokenizer/vocab.json", "vae/a.safetensors", "unet/b.safetensors")
    make(tmp_path, "text_encoder_2/c.safetensors", "text_encoder/d.safetensors", "safety_checker/e.safetensors")
    order = ["text_encoder", "text_encoder_2", "unet", "vae", "safety_checker"]
    assert [file.parent.name for file in weights(tmp_path)] == order


def test_of_two_precisions_only_the_one_that_is_loaded_is_read(tmp_path: Path) -> None:
    make(tmp_path, "unet/a.non_ema.safetensors")
    make(tmp_path, "unet/a.safetensors", "unet/a.fp16.safetensors", "vae/b.safetensors", "other/c.fp16.safetensors")
    full = [file.name for file in weights(tmp_path)]
    half = [file.name for file in weights(tmp_path, half=True)]
    assert full == ["a.safetensors", "b.safetensors", "c.fp16.safetensors"]
    assert half == ["a.fp16.safetensors", "b.safetensors", "c.fp16.safetensors"]


def test_a_model_in_one_file_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, "a.safetensors", "folder/b.gguf")
    assert weights(tmp_path / "a.safetensors") == [tmp_path / "a.safetensors"]
    assert [file.name for file in weights(tmp_path / "c-00001-of-00002.gguf")] == [
        "c-00001-of-00002.gguf",
        "c-00002-of-00002.gguf",
    ]
    assert weights(tmp_path / "folder") == [tmp_path / "folder" / "b.gguf"]
