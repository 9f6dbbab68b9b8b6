"""What the stand-in keeps of a deploy: apps, functions and what they refer to."""

import shlex
from dataclasses import dataclass, field
from functools import cached_property

from modal_proto import api_pb2


@dataclass
class Secret:
    """Environment variables under a name; `required_keys` are those that a lookup asked for."""

    id: str
    name: str
    env: dict[str, str]
    required_keys: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Volume:
    id: str
    name: str


@dataclass(frozen=True)
class MountedVolume:
    """A volume at a path of a function's containers."""

    name: str
    path: str
    read_only: bool
    commits_at_exit: bool


@dataclass
class App:
    """One app, deployed under its name or running as long as its client."""

    id: str
    name: str
    state: int
    functions: "dict[str, Function]" = field(default_factory=dict, repr=False)
    class_ids: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list, repr=False)
    is_done: bool = False


@dataclass
class Stock:
    """Everything that has an id, by id; files by the sha256 of their content."""

    apps: dict[str, App] = field(default_factory=dict)
    functions: "dict[str, Function]" = field(default_factory=dict)
    images: dict[str, api_pb2.Image] = field(default_factory=dict)
    mounts: dict[str, dict[str, str]] = field(default_factory=dict)  # path in the container to sha256
    files: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    last_number: int = 0

    def new_id(self, prefix: str) -> str:
        """An id as Modal's look."""
        self.last_number += 1
        return f"{prefix}-{self.last_number:022d}"

    def image_commands(self, image_id: str) -> list[str]:
        """The Dockerfile's lines of an image, those of the images below it first."""
        image = self.images[image_id]
        below = [line for base in image.base_images for line in self.image_commands(base.image_id)]
        return [*below, *image.dockerfile_commands]


@dataclass
class Function:
    """A function, a class's containers (`Engine.*`), or a variant of those with parameters and options."""

    id: str
    app: App = field(repr=False)
    stock: Stock = field(repr=False)
    definition: api_pb2.Function = field(repr=False)
    ranked: list[api_pb2.Function] = field(repr=False)
    base: "Function | None" = None
    serialized_parameters: bytes = b""
    options: api_pb2.FunctionOptions = field(default_factory=api_pb2.FunctionOptions)

    @property
    def name(self) -> str:
        return self.definition.function_name

    @property
    def gpus(self) -> list[str]:
        """Kinds of GPU in the order in which they are tried, as `H100` or `A100-80GB:2`."""
        configs = [function.resources.gpu_config for function in self.ranked]
        return [c.gpu_type if c.count == 1 else f"{c.gpu_type}:{c.count}" for c in configs if c.count]

    @property
    def volumes(self) -> list[MountedVolume]:
        names = {v.id: v.name for v in self.stock.volumes.values()}
        return [
            MountedVolume(names[m.volume_id], m.mount_path, m.read_only, m.allow_background_commits)
            for m in self.definition.volume_mounts
        ]

    @property
    def secrets(self) -> list[Secret]:
        return [self.stock.secrets[secret_id] for secret_id in self.definition.secret_ids]

    @property
    def files(self) -> dict[str, bytes]:
        """What was uploaded for its containers, by path in there."""
        stock = self.stock
        return {p: stock.files[sha] for mount in self.definition.mount_ids for p, sha in stock.mounts[mount].items()}

    @property
    def image_commands(self) -> list[str]:
        return self.stock.image_commands(self.definition.image_id)

    @cached_property
    def image_env(self) -> dict[str, str]:
        """The variables that the image sets, as its ENV lines say."""
        words = [shlex.split(line.removeprefix("ENV ")) for line in self.image_commands if line.startswith("ENV ")]
        return dict(pair.split("=", 1) for line in words for pair in line)

    @property
    def parameters(self) -> dict[str, object]:
        """Values of the class's `modal.parameter()`s."""
        given = api_pb2.ClassParameterSet.FromString(self.serialized_parameters).parameters
        return {p.name: getattr(p, p.WhichOneof("value_oneof") or "") for p in given}

    @property
    def max_containers(self) -> int:
        """0 where nothing says."""
        return self.options.concurrency_limit or self.definition.autoscaler_settings.max_containers

    def handle(self) -> api_pb2.FunctionHandleMetadata:
        """What clients learn of it."""
        of_methods = self.definition.method_definitions.items()
        return api_pb2.FunctionHandleMetadata(
            function_name=self.name,
            function_type=self.definition.function_type,
            web_url=self.definition.web_url,
            app_id=self.app.id,
            class_parameter_info=self.definition.class_parameter_info,
            method_handle_metadata={name: _method(name, method) for name, method in of_methods},
            function_schema=self.definition.function_schema,
            supported_input_formats=self.definition.supported_input_formats,
            supported_output_formats=self.definition.supported_output_formats,
            base_function_id=self.base.id if self.base else "",
        )

    def data(self) -> api_pb2.FunctionData:
        """What clients learn of its declaration."""
        functions = [api_pb2.FunctionData.RankedFunction(rank=n, function=f) for n, f in enumerate(self.ranked)]
        return api_pb2.FunctionData(
            function_name=self.name,
            timeout_secs=self.definition.timeout_secs,
            web_url=self.definition.web_url,
            webhook_config=self.definition.webhook_config,
            method_definitions=self.definition.method_definitions,
            is_class=self.definition.is_class,
            ranked_functions=functions,
        )

    def with_options(self, bound_id: str, parameters: bytes, options: api_pb2.FunctionOptions) -> "Function":
        """Its variant, which has containers of its own."""
        ranked = [_with_options(function, options) for function in self.ranked]
        ranked = ranked[:1] if options.resources.gpu_config.count else ranked
        return Function(bound_id, self.app, self.stock, ranked[0], ranked, self, parameters, options)


def _method(name: str, method: api_pb2.MethodDefinition) -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=method.function_name,
        function_type=method.function_type,
        web_url=method.web_url,
        is_method=True,
        use_method_name=name,
        function_schema=method.function_schema,
        supported_input_formats=method.supported_input_formats,
        supported_output_formats=method.supported_output_formats,
    )


def _with_options(function: api_pb2.Function, options: api_pb2.FunctionOptions) -> api_pb2.Function:
    changed = api_pb2.Function()
    changed.CopyFrom(function)
    if options.replace_volume_mounts:
        del changed.volume_mounts[:]
        changed.volume_mounts.extend(options.volume_mounts)
    if options.replace_secret_ids:
        del changed.secret_ids[:]
        changed.secret_ids.extend(options.secret_ids)
    changed.resources.MergeFrom(options.resources)
    if options.HasField("timeout_secs"):
        changed.timeout_secs = options.timeout_secs
    if options.HasField("max_concurrent_inputs"):
        changed.max_concurrent_inputs = options.max_concurrent_inputs
    return changed
