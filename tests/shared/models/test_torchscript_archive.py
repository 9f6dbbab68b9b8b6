"""TorchScript archives: their weights are read, and nothing in them is run."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared.errors import ModelUnavailable
from shared.models.torchscript_archive import is_archive, read_archive

jit: Any = torch.jit  # it is not typed
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
]


class Network(nn.Module):
    """Parameters, a buffer, and attributes of the kinds that a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU())])
        self.register_buffer("steps", torch.arange(6).view(2, 3))
        self.names, self.counts, self.factor, self.nothing = ["a"], {"b": 1}, 0.5, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convs:
            x = convolution(x)
        return x * self.factor


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "network.pt"
    jit.save(jit.script(Network()).half(), path)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with every file's content changed."""
    copy = path.with_name("rewritten.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return copy


def with_pickle(path: Path, content: bytes) -> Path:
    return rewritten(path, lambda name, data: content if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("halved", [True, False])
def test_reads_what_torch_reads(tmp_path: Path, halved: bool) -> None:
    path, network = tmp_path / "network.pt", Network()
    jit.save(jit.script(network.half() if halved else network), path)
    found, wanted = read_archive(path), jit.load(path).state_dict()
    assert found.keys() == wanted.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted)


def test_reads_a_traced_network(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    jit.save(jit.trace(network, torch.rand(1, 3, 8, 8)), tmp_path / "traced.pt")
    found = read_archive(tmp_path / "traced.pt")
    assert found.keys() == network.state_dict().keys()
    assert torch.equal(found["2.weight"], network.state_dict()["2.weight"])


def test_tells_an_archive_from_a_state_dict(archive: Path, tmp_path: Path) -> None:
    torch.save(Network().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("no zip")
    assert is_archive(archive)
    assert not is_archive(tmp_path / "state.pt")
    assert not is_archive(tmp_path / "text.pt")


class Command:
    """What a pickle runs where it is read without care."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self._call = function, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, getattr, __import__, torch.load, io.open], ids=lambda f: f.__name__
)
def test_a_pickle_that_calls_something_is_refused_and_not_run(
    archive: Path, tmp_path: Path, function: Callable[..., Any]
) -> None:
    harmful = with_pickle(archive, pickle.dumps(Command(function, f"touch {tmp_path / 'ran'}"), protocol=2))
    with pytest.raises(ModelUnavailable, match=r"rewritten\.pt cannot be read as weights: it asks for"):
        read_archive(harmful)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_archive_is_never_looked_at(archive: Path) -> None:
    broken = rewritten(archive, lambda name, data: b"import os; os.abort()" if "/code/" in name else data)
    assert read_archive(broken).keys() == Network().state_dict().keys()


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nLongStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
MODULE = b"\x80\x02c__torch__\nNetwork\n)\x81}(X\x01\x00\x00\x00w"


def one_tensor(rest: bytes) -> bytes:
    """A pickle of a module with one tensor, by its offset, shape and strides."""
    return MODULE + REBUILD + b"(" + STORAGE + rest + b"\x89}tRub."


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (one_tensor(b"K\x00(K\x07t(K\x01t"), "larger than its values"),
        (one_tensor(b"K\x05(K\x02t(K\x01t"), "larger than its values"),
        (one_tensor(b"K\x00(J\xff\xff\xff\xfft(K\x01t"), "builds a tensor of something else"),
        (one_tensor(b"K\x00(K\x02K\x02t(K\x00K\x01t"), "not one after the other"),
        (MODULE + b"(K\x01K\x02tQub.", ""),
        (b"\x80\x02c__torch__\nA\n)\x81}(X\x01\x00\x00\x00aK\x01ub\x85.", "no tree"),
        (b"\x80\x02c__torch__\nA\n)\x81K\x01b.", "attributes of a module"),
        (REBUILD + b"}X\x07\x00\x00\x00__doc__K\x01s\x86b.", ""),
        (b"\x80\x02K\x05.", "no tree"),
        (b"", ""),
    ],
    ids=["too large", "too far", "negative", "overlapping", "strange values", "tuple", "state", "function", "5", "0"],
)
def test_a_damaged_pickle_is_refused(archive: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(ModelUnavailable, match=rf"rewritten\.pt cannot be read as weights: .*{complaint}"):
        read_archive(with_pickle(archive, content))


def test_a_part_of_the_values_is_read_where_a_whole_pickle_says_so(archive: Path) -> None:
    found = read_archive(with_pickle(archive, one_tensor(b"K\x02(K\x02K\x02t(K\x02K\x01t")))
    assert found["w"].tolist() == [[2, 3], [4, 5]]


def test_a_compressed_archive_is_refused_so_that_none_grows_when_it_is_read(archive: Path) -> None:
    packed = rewritten(archive, lambda name, data: data, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelUnavailable, match="compressed or too large"):
        read_archive(packed)


def test_missing_values_are_named(archive: Path) -> None:
    copy = archive.with_name("copy.pt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if not name.endswith("/data/0"):
                new.writestr(name, old.read(name))
    with pytest.raises(ModelUnavailable, match=r"copy\.pt cannot be read as weights: .*data/0"):
        read_archive(copy)
