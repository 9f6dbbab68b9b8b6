"""What Modal keeps for jobs beside their results: dicts, volumes, and blobs over HTTP."""

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import web
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.platforms.modal.records import Stock


class Storage:
    """Dicts by their id, which is made of their name."""

    def __init__(self) -> None:
        self.dicts: dict[str, dict[bytes, bytes]] = {}

    async def dict_get_or_create(self, request: api_pb2.DictGetOrCreateRequest) -> api_pb2.DictGetOrCreateResponse:
        dict_id = f"di-{request.deployment_name}"
        if dict_id not in self.dicts and not request.object_creation_type:
            raise GRPCError(Status.NOT_FOUND, f"Dict '{request.deployment_name}' not found in environment 'main'")
        self.dicts.setdefault(dict_id, {})
        metadata = api_pb2.DictMetadata(name=request.deployment_name)
        return api_pb2.DictGetOrCreateResponse(dict_id=dict_id, metadata=metadata)

    async def dict_get(self, request: api_pb2.DictGetRequest) -> api_pb2.DictGetResponse:
        return api_pb2.DictGetResponse(
            found=request.key in self.dicts[request.dict_id], value=self.dicts[request.dict_id].get(request.key)
        )

    async def dict_contains(self, request: api_pb2.DictContainsRequest) -> api_pb2.DictContainsResponse:
        return api_pb2.DictContainsResponse(found=request.key in self.dicts[request.dict_id])

    async def dict_update(self, request: api_pb2.DictUpdateRequest) -> api_pb2.DictUpdateResponse:
        kept = self.dicts[request.dict_id]
        if request.if_not_exists and any(entry.key in kept for entry in request.updates):
            return api_pb2.DictUpdateResponse(created=False)
        kept |= {entry.key: entry.value for entry in request.updates}
        return api_pb2.DictUpdateResponse(created=True)

    async def dict_pop(self, request: api_pb2.DictPopRequest) -> api_pb2.DictPopResponse:
        value = self.dicts[request.dict_id].pop(request.key, None)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def dict_len(self, request: api_pb2.DictLenRequest) -> api_pb2.DictLenResponse:
        return api_pb2.DictLenResponse(len=len(self.dicts[request.dict_id]))

    async def dict_clear(self, request: api_pb2.DictClearRequest) -> Empty:
        self.dicts[request.dict_id].clear()
        return Empty()

    async def dict_contents(self, request: api_pb2.DictContentsRequest) -> AsyncIterator[api_pb2.DictEntry]:
        for key, value in list(self.dicts[request.dict_id].items()):
            yield api_pb2.DictEntry(key=key, value=value)


class Volumes:
    """The names of what is on volumes; `folder_of` finds one by its name."""

    def __init__(self, stock: Stock, folder_of: Callable[[str], Path]) -> None:
        self._stock = stock
        self._folder_of = folder_of

    async def volume_list_files(
        self, request: api_pb2.VolumeListFilesRequest
    ) -> AsyncIterator[api_pb2.VolumeListFilesResponse]:
        volume = self._folder_of(self._stock.volumes[request.volume_id].name)
        found = sorted((volume / request.path.strip("/")).glob("**/*" if request.recursive else "*"))
        kinds = {True: api_pb2.FileEntry.DIRECTORY, False: api_pb2.FileEntry.FILE}
        entries = [api_pb2.FileEntry(path=str(file.relative_to(volume)), type=kinds[file.is_dir()]) for file in found]
        yield api_pb2.VolumeListFilesResponse(entries=entries)


class Blobs:
    """What is too large for a message, put and got by HTTP."""

    def __init__(self) -> None:
        self.base_url = ""
        self._data: dict[str, bytes] = {}
        self._promised = 0

    def __getitem__(self, blob_id: str) -> bytes:
        return self._data[blob_id]

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**30)
        app.add_routes([web.put("/{blob_id}", self._put), web.get("/{blob_id}", self._get)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        return runner

    async def _put(self, request: web.Request) -> web.Response:
        data = self._data[request.match_info["blob_id"]] = await request.read()
        return web.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})  # noqa: S324 as S3 does

    async def _get(self, request: web.Request) -> web.Response:
        return web.Response(body=self._data[request.match_info["blob_id"]])

    async def blob_create(self, request: api_pb2.BlobCreateRequest) -> api_pb2.BlobCreateResponse:
        self._promised += 1
        blob_id = f"bl-{self._promised:022d}"
        urls = api_pb2.UploadUrlList(items=[f"{self.base_url}/{blob_id}"])
        return api_pb2.BlobCreateResponse(blob_id=blob_id, blob_ids=[blob_id], upload_urls=urls)

    async def blob_get(self, request: api_pb2.BlobGetRequest) -> api_pb2.BlobGetResponse:
        return api_pb2.BlobGetResponse(download_url=f"{self.base_url}/{request.blob_id}")
