"""The calls of a deploy: apps, functions and classes, images, uploaded files, secrets and volumes."""

import hashlib
import time
from collections.abc import Callable

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.platforms.modal.records import App, Function, Secret, Stock, Volume

BUILDER_VERSION = "2026.10"
BUILT = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
PYTHON = "3.11"


def not_found(what: str) -> GRPCError:
    return GRPCError(Status.NOT_FOUND, f"{what} not found in environment 'main'")


class Deploying:
    """Keeps what clients create in `stock`; `blob` gives what was uploaded by HTTP."""

    def __init__(self, stock: Stock, blob: Callable[[str], bytes]) -> None:
        self.stock = stock
        self._blob = blob

    def app_named(self, name: str) -> App | None:
        """The app that was deployed under a name."""
        deployed = [a for a in self.stock.apps.values() if a.name == name and a.state == api_pb2.APP_STATE_DEPLOYED]
        return deployed[-1] if deployed else None

    async def client_hello(self, request: Empty) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    async def environment_get_or_create(
        self, request: api_pb2.EnvironmentGetOrCreateRequest
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER_VERSION, webhook_suffix="")
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def app_get_by_deployment_name(
        self, request: api_pb2.AppGetByDeploymentNameRequest
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        app = self.app_named(request.name)
        return api_pb2.AppGetByDeploymentNameResponse(app_id=app.id if app else "")

    async def app_create(self, request: api_pb2.AppCreateRequest) -> api_pb2.AppCreateResponse:
        app = App(self.stock.new_id("ap"), request.description, request.app_state)
        self.stock.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url=f"https://modal.com/apps/{app.id}")

    async def app_heartbeat(self, request: api_pb2.AppHeartbeatRequest) -> Empty:
        return Empty()

    async def app_get_layout(self, request: api_pb2.AppGetLayoutRequest) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=layout(self.stock.apps[request.app_id]))

    async def app_publish(self, request: api_pb2.AppPublishRequest) -> api_pb2.AppPublishResponse:
        app = self.stock.apps[request.app_id]
        app.name, app.state = request.name or app.name, request.app_state
        app.class_ids = dict(request.class_ids)
        app.functions = {f.name: f for f in app.functions.values() if f.id in request.function_ids.values()}
        url = f"https://modal.com/apps/stand-in/main/deployed/{app.name}"
        return api_pb2.AppPublishResponse(url=url, deployed_at=time.time())

    async def function_precreate(
        self, request: api_pb2.FunctionPrecreateRequest
    ) -> api_pb2.FunctionPrecreateResponse:
        definition = api_pb2.Function(
            function_name=request.function_name,
            function_type=request.function_type,
            method_definitions=request.method_definitions,
            function_schema=request.function_schema,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        function = self._function(request.app_id, request.existing_function_id, [definition])
        return api_pb2.FunctionPrecreateResponse(function_id=function.id, handle_metadata=function.handle())

    async def function_create(self, request: api_pb2.FunctionCreateRequest) -> api_pb2.FunctionCreateResponse:
        ranked = [r.function for r in request.function_data.ranked_functions] or [request.function]
        function = self._function(request.app_id, request.existing_function_id, ranked)
        return api_pb2.FunctionCreateResponse(
            function_id=function.id,
            function=function.definition,
            function_data=function.data(),
            handle_metadata=function.handle(),
        )

    def _function(self, app_id: str, existing_id: str, ranked: list[api_pb2.Function]) -> Function:
        app, first = self.stock.apps[app_id], ranked[0]
        if first.webhook_config.type:
            first.web_url = f"https://stand-in--{app.name}-{first.function_name.replace('_', '-')}.modal.run"
        function = Function(existing_id or self.stock.new_id("fu"), app, self.stock, first, ranked)
        self.stock.functions[function.id] = app.functions[function.name] = function
        return function

    async def class_create(self, request: api_pb2.ClassCreateRequest) -> api_pb2.ClassCreateResponse:
        return api_pb2.ClassCreateResponse(class_id=request.existing_class_id or self.stock.new_id("cs"))

    async def class_get(self, request: api_pb2.ClassGetRequest) -> api_pb2.ClassGetResponse:
        app = self.app_named(request.app_name)
        if app is None or request.object_tag not in app.class_ids:
            raise not_found(f"Class '{request.object_tag}' of app '{request.app_name}'")
        return api_pb2.ClassGetResponse(class_id=app.class_ids[request.object_tag])

    async def function_get(self, request: api_pb2.FunctionGetRequest) -> api_pb2.FunctionGetResponse:
        app = self.app_named(request.app_name)
        if app is None or request.object_tag not in app.functions:
            raise not_found(f"Function '{request.object_tag}' of app '{request.app_name}'")
        function = app.functions[request.object_tag]
        return api_pb2.FunctionGetResponse(
            function_id=function.id, handle_metadata=function.handle(), function=function.data()
        )

    async def function_bind_params(
        self, request: api_pb2.FunctionBindParamsRequest
    ) -> api_pb2.FunctionBindParamsResponse:
        base = self.stock.functions[request.function_id]
        bound_id = f"fu-{hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()[:22]}"
        variant = base.with_options(bound_id, request.serialized_params, request.function_options)
        self.stock.functions.setdefault(bound_id, variant)
        return api_pb2.FunctionBindParamsResponse(bound_function_id=bound_id, handle_metadata=variant.handle())

    async def image_get_or_create(self, request: api_pb2.ImageGetOrCreateRequest) -> api_pb2.ImageGetOrCreateResponse:
        image_id = f"im-{hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()[:22]}"
        self.stock.images[image_id] = request.image
        metadata = api_pb2.ImageMetadata(
            image_builder_version=BUILDER_VERSION, python_version_info=f"Python {PYTHON}"
        )
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=BUILT, metadata=metadata)

    async def mount_batched_check_existence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        missing = [sha for sha in request.sha256_hex_hashes if sha not in self.stock.files]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def mount_put_file(self, request: api_pb2.MountPutFileRequest) -> api_pb2.MountPutFileResponse:
        data = self._blob(request.data_blob_id) if request.data_blob_id else request.data
        self.stock.files[hashlib.sha256(data).hexdigest()] = data
        return api_pb2.MountPutFileResponse(exists=True)

    async def mount_get_or_create(self, request: api_pb2.MountGetOrCreateRequest) -> api_pb2.MountGetOrCreateResponse:
        mount_id = self.stock.new_id("mo")
        self.stock.mounts[mount_id] = {file.filename: file.sha256_hex for file in request.files}
        metadata = api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount_id)
        return api_pb2.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=metadata)

    async def volume_get_or_create(
        self, request: api_pb2.VolumeGetOrCreateRequest
    ) -> api_pb2.VolumeGetOrCreateResponse:
        name = request.deployment_name
        volume = next((v for v in self.stock.volumes.values() if v.name == name), None)
        if volume is None:
            if not request.object_creation_type:
                raise not_found(f"Volume '{name}'")
            volume = Volume(self.stock.new_id("vo"), name)
            self.stock.volumes[volume.id] = volume
        metadata = api_pb2.VolumeMetadata(name=name, version=request.version)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=volume.id, version=request.version, metadata=metadata)

    async def secret_get_or_create(
        self, request: api_pb2.SecretGetOrCreateRequest
    ) -> api_pb2.SecretGetOrCreateResponse:
        secret = self._secret(request)
        secret.required_keys |= set(request.required_keys)
        missing = sorted(set(request.required_keys) - set(secret.env))
        if missing:
            words = f"Secret '{secret.name}' is missing key(s): {', '.join(missing)}"
            raise GRPCError(Status.INVALID_ARGUMENT, words)
        metadata = api_pb2.SecretMetadata(name=secret.name, keys=sorted(secret.env), environment_name="main")
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret.id, metadata=metadata)

    def _secret(self, request: api_pb2.SecretGetOrCreateRequest) -> Secret:
        name, kind = request.deployment_name, request.object_creation_type
        found = next((s for s in self.stock.secrets.values() if name and s.name == name), None)
        if found and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Secret '{name}' already exists")
        if found and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            found.env = dict(request.env_dict)
        if found:
            return found
        if not kind:
            raise not_found(f"Secret '{name}'")
        return self.add_secret(name, dict(request.env_dict))

    def add_secret(self, name: str, env: dict[str, str]) -> Secret:
        secret = Secret(self.stock.new_id("st"), name, env)
        self.stock.secrets[secret.id] = secret
        return secret


def layout(app: App) -> api_pb2.AppLayout:
    """The ids of an app's functions and classes, with what they and the objects that they use are."""
    objects = [api_pb2.Object(object_id=f.id, function_handle_metadata=f.handle()) for f in app.functions.values()]
    objects += [
        api_pb2.Object(object_id=class_id, class_handle_metadata=api_pb2.ClassHandleMetadata())
        for class_id in app.class_ids.values()
    ]
    used = {d.object_id for f in app.functions.values() for d in f.definition.object_dependencies}
    objects += [api_pb2.Object(object_id=object_id) for object_id in sorted(used)]
    function_ids = {name: f.id for name, f in app.functions.items()}
    return api_pb2.AppLayout(objects=objects, function_ids=function_ids, class_ids=app.class_ids)
