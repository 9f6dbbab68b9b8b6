"""What the Go types of Livepeer's client need of an answer: members without `omitempty`, of exactly these types.

Members that it does not know are ignored, as `encoding/json` ignores them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class GoStruct(BaseModel):
    """A struct that `encoding/json` fills: nothing is converted."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


# NODE decodes the pictures itself and writes them again: of these formats, from nothing but a data URL.
ImageUrl = Annotated[str, Field(pattern=r"^data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}$")]
FrameUrl = Annotated[str, Field(pattern=r"^data:image/png;base64,[A-Za-z0-9+/]+={0,2}$")]


class Media(GoStruct):
    """A picture."""

    url: ImageUrl
    seed: int
    nsfw: bool


class Frame(Media):
    """A picture that the node gives to its encoder under a name that ends in .png."""

    url: FrameUrl


class ImageResponse(GoStruct):
    """Of text-to-image, image-to-image and upscale."""

    images: Annotated[list[Media], Field(min_length=1)]


class VideoResponse(GoStruct):
    """Of image-to-video; the node refuses any other number of videos than one."""

    frames: Annotated[list[list[Frame]], Field(min_length=1, max_length=1)]


class Message(GoStruct):
    """What was said, in a chat."""

    role: str
    content: str


class Usage(GoStruct):
    """Tokens, by which text is paid."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(GoStruct):
    """One answer; `delta` in a stream, `message` otherwise."""

    index: int
    finish_reason: str | None = None
    delta: Message | None = None
    message: Message | None = None


class LLMResponse(GoStruct):
    """Of llm, and each event of its stream: the node reads the first choice without looking whether there is one."""

    id: str
    model: str
    created: int
    usage: Usage
    choices: Annotated[list[Choice], Field(min_length=1)]


class Detail(GoStruct):
    """Why."""

    msg: str


class HTTPError(GoStruct):
    """With 400, 401 and 500."""

    detail: Detail


class Problem(GoStruct):
    """One wrong field."""

    loc: list[str | int]
    msg: str
    type: str


class HTTPValidationError(GoStruct):
    """With 422."""

    detail: list[Problem]


class HealthCheck(GoStruct):
    """Read every five seconds; two other answers end a managed container."""

    status: Literal["OK", "ERROR", "LOADING", "IDLE"]


class Version(GoStruct):
    """Compared as a semantic version, where pipeline and model are those that the node knows it by."""

    pipeline: str
    model_id: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+")]


class GPUComputeInfo(GoStruct):
    """One card."""

    id: str
    name: str
    memory_total: int
    memory_free: int
    major: int
    minor: int


class HardwareInformation(GoStruct):
    """The cards by their number."""

    pipeline: str
    model_id: str
    gpu_info: dict[str, GPUComputeInfo]


class GPUUtilizationInfo(GoStruct):
    """One card, and how busy it is in percent."""

    id: str
    name: str
    memory_total: int
    memory_free: int
    utilization_compute: int
    utilization_memory: int


class HardwareStats(GoStruct):
    """The cards by their number."""

    pipeline: str
    model_id: str
    gpu_stats: dict[str, GPUUtilizationInfo]
