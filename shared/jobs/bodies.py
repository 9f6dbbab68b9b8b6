"""The bodies of synchronous answers, under the names that Livepeer's runner gives them, for the API's document."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """A JSON object; more members may come with a later version."""

    model_config = ConfigDict(protected_namespaces=())


class Result(Body):
    """What every result tells of its run."""

    metrics: dict[str, Any] = Field(description="Seconds by stage, peak memory, and facts about the run.")
    receipt: dict[str, Any] = Field(description="Model, parameters and hashes of the outputs, signed by the worker.")


class Media(Body):
    """A picture."""

    url: str = Field(description="A data URL, or where the file can be fetched.")
    seed: int = Field(description="The seed that it was made from; 0 where nothing was drawn.")
    nsfw: bool = Field(description="Whether a safety checker flagged it.")


class VideoMedia(Media):
    """A video."""

    frames: int = Field(description="How many there are.")
    fps: float = Field(description="Frames a second.")


class ImageResponse(Result):
    """Pictures."""

    images: list[Media] = Field(description="The pictures, in the order of their seeds.")


class VideoResponse(Result):
    """The frames of one video."""

    frames: list[list[Media]] = Field(description="The frames of each video, of which there is one.")


class VideoFileResponse(Result):
    """Videos as files."""

    videos: list[VideoMedia] = Field(description="The videos.")


class TextGenerationResponse(Result):
    """A text."""

    text: str = Field(description="What was written.")
    usage: dict[str, int] = Field(description="Tokens, as OpenAI counts them.")
    finish_reason: str = Field(description="`stop` where the text ended, `length` where its tokens did.")


class APIError(Body):
    """Why there is no result."""

    msg: str = Field(description="What was wrong, and what to do.")
    code: str = Field(description="The same, for programs.")


class HTTPError(Body):
    """An error."""

    detail: APIError = Field(description="Why there is no result.")


class ValidationError(Body):
    """One wrong field."""

    loc: list[str | int] = Field(description="The way to it.")
    msg: str = Field(description="What it must be.")
    type: str = Field(description="The same, for programs.")


class HTTPValidationError(Body):
    """What is wrong with a request."""

    detail: list[ValidationError] = Field(description="Each field that is wrong.")


ALL: tuple[type[Body], ...] = (
    ImageResponse,
    VideoResponse,
    VideoFileResponse,
    TextGenerationResponse,
    HTTPError,
    HTTPValidationError,
)
