"""Which members a request to OpenAI's API may have here, and within which bounds; nothing else reaches llama.cpp.

Its server takes many more, by which one caller can end the process that serves the others, or hold it for minutes:
a grammar of its own, penalties over more tokens than there is memory for, thousands of probabilities a token.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.errors import InvalidInput
from shared.schemas import MAX_SEED

MOST_INPUTS = 2048  # texts of one embeddings request, as OpenAI has it
MOST_SAID = 8  # mistakes that a refusal names; a list may have as many as it has members
Token = Annotated[int, Field(ge=0, lt=2**31)]  # llama.cpp takes a larger one for another
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,7}$")]
LogitBias = Annotated[dict[TokenId, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=300)]
Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=64)]


class _Body(BaseModel):
    """What every request may have; `null` is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, given: Any) -> Any:
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given


BodyT = TypeVar("BodyT", bound=_Body)


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class _Sampling(_Body):
    """How tokens are chosen: OpenAI's members, and llama.cpp's under their own names."""

    stream: bool = Field(False, strict=True)  # what the platform takes for a stream: openai.Request.stream
    stream_options: _StreamOptions | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    n: Literal[1] = 1
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=10)
    repeat_last_n: int | None = Field(None, ge=-1, le=1_000_000)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-1, lt=MAX_SEED)
    stop: Stops | None = None
    logit_bias: LogitBias | None = None
    response_format: dict[str, Any] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    def for_engine(self) -> dict[str, Any]:
        """The members as llama.cpp has them."""
        ours = {"model", "user", "safety_identifier", "metadata", "stream", "stream_options"}
        return self.model_dump(exclude_none=True, exclude={*ours, "store", "service_tier", "n"})


class ChatBody(_Sampling):
    """`/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasoning_effort: str | None = Field(None, max_length=20)
    chat_template_kwargs: dict[str, str | bool | int] | None = Field(None, max_length=20)

    def for_engine(self) -> dict[str, Any]:
        """See _Sampling."""
        body = super().for_engine()
        if most := body.pop("max_completion_tokens", None):
            body.setdefault("max_tokens", most)
        if effort := body.pop("reasoning_effort", None):
            body["chat_template_kwargs"] = {"reasoning_effort": effort, **body.get("chat_template_kwargs", {})}
        return body


class CompletionBody(_Sampling):
    """`/v1/completions`."""

    prompt: str | list[str] | list[Token]
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: Literal[False] = False
    best_of: Literal[1] = 1

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        texts = [p for p in self.prompt if isinstance(p, str)] if isinstance(self.prompt, list) else []
        if len(texts) > 1 or self.prompt == []:
            raise ValueError("prompt: one a request; send several requests, which are run side by side")
        return self

    def for_engine(self) -> dict[str, Any]:
        """See _Sampling."""
        rest = super().for_engine()
        probabilities = rest.pop("logprobs", None)
        rest = {name: value for name, value in rest.items() if name not in ("echo", "best_of")}
        if isinstance(self.prompt, list) and isinstance(self.prompt[0], str):
            rest["prompt"] = self.prompt[0]
        return {**rest, **({"n_probs": max(1, probabilities)} if probabilities is not None else {})}


class EmbeddingBody(_Body):
    """`/v1/embeddings`; the vectors have the model's own length."""

    input: str | list[str] | list[Token] | list[list[Token]]
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def inputs(self) -> list[str | list[int]]:
        """The inputs one by one."""
        if isinstance(self.input, str):
            return [self.input]
        tokens = [each for each in self.input if isinstance(each, int)]
        texts = [each for each in self.input if not isinstance(each, int)]
        return [*texts, *([tokens] if tokens else [])]  # tokens that are in no list are one text

    @model_validator(mode="after")
    def _some_and_not_too_many(self) -> Self:
        if not 0 < len(self.inputs) <= MOST_INPUTS:
            raise ValueError(f"input: 1 to {MOST_INPUTS} texts a request")
        return self


def check(kind: type[BodyT], body: Any) -> BodyT:
    """The request, read and within its bounds.

    Raises:
        InvalidInput: with the members that are wrong or unknown.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_url=False)
        more = [f"and {len(errors) - MOST_SAID} more"] if len(errors) > MOST_SAID else []
        raise InvalidInput("; ".join([*map(_said, errors[:MOST_SAID]), *more])) from exc


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])[:100]
    if error["type"] == "extra_forbidden":
        return f"{where}: not known here"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
