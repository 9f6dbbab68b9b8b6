"""Write text: a GGUF model continues a prompt or answers a chat, streamed as it writes."""

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared import openai
from shared.models import chat
from shared.models.gguf import TextModel, load
from shared.models.request_body import ChatBody, CompletionBody, EmbeddingBody, LogitBias, Stops, check
from shared.schemas import MAX_SEED, Context, Handler, ModelParams


class Message(BaseModel):
    """One turn of a chat; further members go to the model's template as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: str = Field(description="`system`, `user`, `assistant`, or what the model's template knows.")
    content: str | list[dict[str, Any]] | None = Field(None, description="What was said.")


class ResponseFormat(BaseModel):
    """What the answer must be, as OpenAI says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text", "json_object", "json_schema"] = Field("text", description="Text, any JSON, or a schema's.")
    json_schema: dict[str, Any] | None = Field(None, description='`{"schema": {...}}`, for `json_schema`.')


class TextGenerationParams(ModelParams):
    """What a text is written from; names as the first GGML worker, Hugging Face and OpenAI have them."""

    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "max_tokens": "max_new_tokens",
            "max_completion_tokens": "max_new_tokens",
            "repeat_penalty": "repetition_penalty",
            "repeat_last_n": "last_n_tokens",
            "stop_sequences": "stop",
            "system": "system_prompt",
        }
    )

    prompt: str | None = Field(None, description="Text to continue, as it is; with `system_prompt`, a question.")
    messages: list[Message] | None = Field(None, min_length=1, description="A chat, through the model's template.")
    system_prompt: str | None = Field(None, description="What the model is told before the chat.")
    nudge: str = Field("", description="First words of the answer, which the model continues; not in the output.")
    stream: bool = Field(True, description="Send pieces as they are written; otherwise the whole text once.")
    max_new_tokens: int = Field(300, ge=1, le=1_000_000, description="Most tokens to write.")
    temperature: float = Field(0.8, ge=0, le=10, description="0 always takes the likeliest token.")
    top_p: float = Field(0.95, gt=0, le=1, description="Choose among the likeliest tokens of this total share.")
    top_k: int = Field(40, ge=0, le=1_000_000, description="Choose among this many tokens; 0 for all.")
    min_p: float = Field(0.05, ge=0, le=1, description="Leave out tokens below this share of the likeliest.")
    repetition_penalty: float = Field(1.0, gt=0, le=10, description="Above 1, what was said is less likely.")
    last_n_tokens: int = Field(
        64, ge=-1, le=1_000_000, description="How far back the penalties look; -1 for the whole context."
    )
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="As OpenAI's.")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="As OpenAI's.")
    seed: int = Field(-1, ge=-1, lt=MAX_SEED, description="-1 draws one; the receipt has it.")
    stop: str | Stops = Field([], description="Where the text ends; not in the output.")
    logit_bias: LogitBias = Field({}, description="Token ids, and what is added to their logits; 300 at most.")
    response_format: ResponseFormat | None = Field(None, description="Any text, any JSON, or JSON of a schema.")
    n: Literal[1] = Field(1, description="One answer a job.")
    batch_size: int | None = Field(
        None, ge=-1, le=1_000_000, description="Of the first worker's jobs; without effect on this engine."
    )
    threads: int | None = Field(
        None, ge=-1, le=1_000_000, description="Of the first worker's jobs; without effect on this engine."
    )

    @model_validator(mode="after")
    def _one_of_prompt_and_messages(self) -> "TextGenerationParams":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.nudge and self.messages and self.messages[-1].role == "assistant":
            raise ValueError("the last message is the assistant's, which is continued; put the nudge into it")
        return self


def run(model: TextModel, params: TextGenerationParams, ctx: Context) -> None:
    """Write one text; its pieces are whole characters, with nothing of a stop string."""
    seed = secrets.randbelow(MAX_SEED) if params.seed < 0 else params.seed
    ctx.effective(seed=seed)
    body = {**_sampling(params), "seed": seed}
    turns = _turns(params)
    if turns:
        request = {**body, **chat.COUNTED, "messages": turns, "reasoning_format": "none"}
        model.chat(request, chat.Reader(ctx, chat.spoken, params.max_new_tokens))
    else:
        request = {**body, "prompt": f"{params.prompt}{params.nudge}"}
        model.complete(request, chat.Reader(ctx, chat.written, params.max_new_tokens))


def run_openai(model: TextModel, request: openai.Request, ctx: Context) -> None:
    """Answer a request to OpenAI's API, in its own words."""
    if request.route == "/v1/embeddings":
        asked = check(EmbeddingBody, request.body)
        ctx.answer(model.embed(asked.inputs, asked.encoding_format, ctx.check))
        return
    is_chat = request.route == "/v1/chat/completions"
    call, body = (
        (model.chat if is_chat else model.complete),
        check(ChatBody if is_chat else CompletionBody, request.body),
    )
    given = {**body.for_engine(), **chat.COUNTED}
    if body.stream:
        wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        call(given, lambda chunk: chat.forward(chunk, ctx, usage=wants_usage))
        ctx.text(openai.DONE)
        return
    answer = chat.Answer()
    call(given, lambda chunk: answer.take(chunk, ctx))
    ctx.answer(answer.body())


def _turns(params: TextGenerationParams) -> list[dict[str, Any]]:
    """The chat to answer; empty where a prompt is to be continued as it is."""
    if params.messages is None and params.system_prompt is None:
        return []
    told = [{"role": "system", "content": params.system_prompt}] if params.system_prompt else []
    said = [m.model_dump(exclude_none=True) for m in params.messages or ()]
    asked = said or [{"role": "user", "content": params.prompt}]
    begun = [{"role": "assistant", "content": params.nudge}] if params.nudge else []
    return [*told, *asked, *begun]


def _sampling(params: TextGenerationParams) -> dict[str, Any]:
    """What llama.cpp's server calls the parameters."""
    return {
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "repeat_penalty": params.repetition_penalty,
        "repeat_last_n": params.last_n_tokens,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "stop": params.stop,
        **({"logit_bias": params.logit_bias} if params.logit_bias else {}),
        "response_format": params.response_format.model_dump() if params.response_format else None,
    }


handler = Handler(
    params=TextGenerationParams,
    load=load,
    run=run,
    stream=True,
    concurrent=True,
    torch=False,
    openai=Handler(params=openai.Request, load=load, run=run_openai, stream=True, concurrent=True, torch=False),
)
