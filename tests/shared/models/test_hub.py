"""What the hub has, fetched by the real huggingface_hub from a hub on loopback; and what it refuses, in words."""

import errno
import fcntl
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.models.hub import Hub, Listing
from shared.models.hub_errors import DiskFull
from tests.shared.media.loopback import cut_short
from tests.shared.models.folders import REMOTE
from tests.shared.models.hub_server import HubServer, dropped, git_sha1, held, hub_server, refusal

MODEL = "Ours/Small-Model"
COMMIT = "1" * 40
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
MANY = 21 * 2**20  # bytes; huggingface_hub's pieces have 10 MiB, of which half must hold one


@pytest.fixture
def served() -> Iterator[HubServer]:
    with hub_server() as server:
        server.add(MODEL, REMOTE, COMMIT)
        yield server


def ignore(number: int) -> None:
    """Nobody looks at the progress."""


def file_of(listing: Listing, name: str = WEIGHTS) -> Listing:
    return listing.only([name])


def fetch(hub: Hub, listing: Listing, folder: Path, name: str = WEIGHTS) -> Path:
    return hub.fetch(listing, file_of(listing, name).files[0], folder, ignore)


def test_a_listing_has_the_commit_and_each_files_size_and_hash(served: HubServer) -> None:
    listing = Hub(served.url).listing(MODEL, "main")
    assert (listing.model_id, listing.commit) == (MODEL, COMMIT)
    by_name = {file.name: file for file in listing.files}
    assert by_name.keys() == REMOTE.keys()
    assert by_name[WEIGHTS].sha256 == hashlib.sha256(REMOTE[WEIGHTS]).hexdigest()
    assert by_name["README.md"].git_sha1 == git_sha1(REMOTE["README.md"])
    assert listing.total() == sum(len(data) for data in REMOTE.values())
    assert len(served.seen) == 1


def test_small_files_come_first() -> None:
    with hub_server() as server:
        server.add(MODEL, {"a.safetensors": b"a" * 9, "b.json": b"b", "c.json": b"cc"})
        listing = Hub(server.url).listing(MODEL, "main").only(["a.safetensors", "c.json", "b.json"])
    assert listing.names() == ["b.json", "c.json", "a.safetensors"]


@pytest.mark.parametrize("name", [WEIGHTS, "unet/config.json"])
def test_a_file_is_fetched_under_its_name(tmp_path: Path, served: HubServer, name: str) -> None:
    hub = Hub(served.url)
    path = fetch(hub, hub.listing(MODEL, "main"), tmp_path, name)
    assert path == tmp_path / name
    assert path.read_bytes() == REMOTE[name]


def test_progress_is_told_in_bytes(tmp_path: Path, served: HubServer) -> None:
    told: list[int] = []
    hub = Hub(served.url)
    listing = file_of(hub.listing(MODEL, "main"))
    hub.fetch(listing, listing.files[0], tmp_path, told.append)
    assert sum(told) == len(REMOTE[WEIGHTS])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dropped_connection_is_resumed_where_it_broke_off(tmp_path: Path) -> None:
    data = b"0123456789abcdef" * (MANY // 16)
    with hub_server() as server:
        server.add(MODEL, {"big.safetensors": data})
        server.faults["big.safetensors"] = [dropped]
        hub = Hub(server.url)
        path = fetch(hub, hub.listing(MODEL, "main"), tmp_path, "big.safetensors")
        assert path.read_bytes() == data
        assert server.gets["big.safetensors"] == 2
        assert server.bytes_sent["big.safetensors"] < 2 * len(data)  # the second answer was a range


def test_a_fetch_ends_between_pieces_when_told_so(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(number: int) -> None:
        raise Enough

    gate = threading.Event()
    with hub_server() as server:
        server.add(MODEL, {"big.safetensors": b"x" * MANY})
        server.faults["big.safetensors"] = [held(gate)]
        hub = Hub(server.url)
        listing = hub.listing(MODEL, "main")
        with pytest.raises(Enough):
            hub.fetch(listing, listing.files[0], tmp_path, stop)
        gate.set()
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".safetensors", ".incomplete")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_other_errors_and_leaves_nothing(
    tmp_path: Path, served: HubServer, number: int
) -> None:
    def full(arrived: int) -> None:
        raise OSError(number, "no space")  # where huggingface_hub writes the piece

    hub = Hub(served.url)
    listing = file_of(hub.listing(MODEL, "main"))
    with pytest.raises(DiskFull):
        hub.fetch(listing, listing.files[0], tmp_path, full)
    assert not [f for f in tmp_path.rglob("*") if f.suffix in (".safetensors", ".incomplete")]


def refused(hub: Hub, model_id: str = MODEL, revision: str = "main") -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        hub.listing(model_id, revision)
    return caught.value


def test_gated_without_a_token_names_the_page_of_the_licence(tmp_path: Path, served: HubServer) -> None:
    served.repos[MODEL].gated_for = frozenset({"hf_good"})
    hub = Hub(served.url)
    with pytest.raises(ModelUnavailable) as caught:
        fetch(hub, hub.listing(MODEL, "main"), tmp_path)
    assert caught.value.detail == {"reason": "gated"}
    assert f"accept its terms at {served.url}/{MODEL} and set HF_TOKEN" in caught.value.message
    allowed = Hub(served.url, "hf_good")
    assert fetch(allowed, allowed.listing(MODEL, "main"), tmp_path).read_bytes() == REMOTE[WEIGHTS]


def test_gated_for_the_account_of_the_token_says_so(tmp_path: Path, served: HubServer) -> None:
    served.repos[MODEL].gated_for = frozenset()
    hub = Hub(served.url, "hf_good")
    with pytest.raises(ModelUnavailable, match="with the account that HF_TOKEN is of"):
        fetch(hub, hub.listing(MODEL, "main"), tmp_path)


def test_a_wrong_token_is_named_as_the_reason(served: HubServer) -> None:
    exc = refused(Hub(served.url, "hf_wrong"))
    assert exc.detail == {"reason": "token"}
    assert exc.message == f"the hub does not accept HF_TOKEN; make a new one at {served.url}/settings/tokens"


def test_an_unknown_model_comes_with_the_nearest_that_there_are(served: HubServer) -> None:
    served.add("Others/Small-Model-2", REMOTE)
    exc = refused(Hub(served.url), "Ours/Small")
    assert exc.detail == {"reason": "unknown"}
    assert exc.message.startswith("the hub has no 'Ours/Small', or it is private and needs HF_TOKEN; the nearest")
    assert exc.message.index(MODEL) < exc.message.index("Others/Small-Model-2")


def test_an_unknown_model_is_said_too_where_the_search_does_not_answer(served: HubServer) -> None:
    served.instead["/api/models"] = refusal(500, "")
    assert (
        refused(Hub(served.url), "Ours/Smal").message
        == "the hub has no 'Ours/Smal', or it is private and needs HF_TOKEN"
    )


def test_a_private_model_is_not_told_from_an_unknown_one(served: HubServer) -> None:
    served.repos[MODEL].private = True
    assert refused(Hub(served.url)).detail == {"reason": "unknown"}


def test_an_unknown_revision_comes_with_the_nearest_that_there_are(served: HubServer) -> None:
    served.repos[MODEL].branches = ("main", "fp16", "onnx")
    exc = refused(Hub(served.url), revision="fp-16")
    assert exc.message == f"'{MODEL}' has no revision 'fp-16'; it has: fp16"
    assert "main, fp16, onnx" in refused(Hub(served.url), revision="2" * 40).message


@pytest.mark.parametrize(("status", "reason"), [(500, "unreachable"), (403, "token"), (429, "unreachable")])
def test_other_refusals_carry_their_reason(served: HubServer, status: int, reason: str) -> None:
    served.instead[f"/api/models/{MODEL}/revision/main"] = refusal(status, "")
    assert refused(Hub(served.url)).detail == {"reason": reason}


def test_an_answer_that_breaks_off_is_unreachable(served: HubServer) -> None:
    served.instead[f"/api/models/{MODEL}/revision/main"] = cut_short
    assert refused(Hub(served.url)).detail == {"reason": "unreachable"}


def test_no_error_has_the_token_in_it(tmp_path: Path, served: HubServer) -> None:
    served.repos[MODEL].gated_for = frozenset()
    for exc in (refused(Hub(served.url, "hf_wrong")), refused(Hub(served.url, "hf_good"), "Ours/None")):
        assert "hf_wrong" not in exc.message
        assert "hf_good" not in exc.message


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_volume_that_knows_no_locks_is_downloaded_to(
    tmp_path: Path, served: HubServer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(number, "no locks")  # as the kernel does for such a volume

    monkeypatch.setattr(fcntl, "flock", refuse)
    hub = Hub(served.url)
    listing = hub.listing(MODEL, "main")
    for name in (WEIGHTS, "unet/config.json"):
        assert fetch(hub, listing, tmp_path, name).read_bytes() == REMOTE[name]


def test_a_file_that_comes_again_takes_the_place_of_the_old_one(tmp_path: Path, served: HubServer) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / WEIGHTS).write_bytes(b"old")
    hub = Hub(served.url)
    assert fetch(hub, hub.listing(MODEL, "main"), tmp_path).read_bytes() == REMOTE[WEIGHTS]
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [tmp_path / WEIGHTS]


def test_a_folder_that_was_moved_meanwhile_is_not_made_again(tmp_path: Path, served: HubServer) -> None:
    hub = Hub(served.url)
    with pytest.raises(FileNotFoundError):
        fetch(hub, hub.listing(MODEL, "main"), tmp_path / "moved")
    assert not (tmp_path / "moved").exists()


@pytest.mark.parametrize("name", ["../outside.json", "unet/../../outside.json", "/outside.json"])
def test_a_hub_that_lists_files_outside_of_the_model_is_refused(served: HubServer, name: str) -> None:
    served.repos[MODEL].files[name] = b"{}"
    assert refused(Hub(served.url)).detail == {"reason": "format"}


def test_no_error_has_the_password_of_the_endpoint_in_it(served: HubServer) -> None:
    place = served.url.removeprefix("http://")
    exc = refused(Hub(f"http://user:s3cret@{place}", "hf_wrong"))
    assert exc.message.endswith(f"make a new one at {served.url}/settings/tokens")
    nowhere = refused(Hub("http://user:s3cret@127.0.0.1:9/mirror"))
    assert "ConnectError from http://127.0.0.1:9/mirror;" in nowhere.message


def test_a_branch_may_have_a_slash_in_its_name(served: HubServer) -> None:
    served.repos[MODEL].branches = ("main", "refs/pr/1")
    assert Hub(served.url).listing(MODEL, "refs/pr/1").commit == COMMIT
