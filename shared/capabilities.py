"""The document in which a worker says what it can run and how busy it is; other nodes' documents are read with it.

Fields that it does not know are passed over, values of another type are refused.
"""

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Constraint(_Told):
    """What a parameter may be; of what does not bound it nothing is said."""

    minimum: int | float | None = Field(None, description="The least.")
    maximum: int | float | None = Field(None, description="The most.")
    exclusive_minimum: int | float | None = Field(None, description="It must be more.")
    exclusive_maximum: int | float | None = Field(None, description="It must be less.")
    multiple_of: int | float | None = Field(None, description="It must be a multiple of this.")
    enum: list[Scalar] | None = Field(None, description="It must be one of these.")
    default: Scalar | None = Field(None, description="What this model gets where a job says nothing.")


class Price(_Told):
    """What the operator asks for, as Livepeer's orchestrators count it."""

    per_unit: float = Field(ge=0, description="The price of a unit.")
    unit: str = Field(description="`pixel`, of all pictures and frames made, or `token`, of text.")
    pixels_per_unit: int = Field(ge=1, description="How many of them are one unit.")
    currency: str = Field(description="`wei`, `eth`, or one such as `USD`.")


class OfferedModel(_Told):
    """A model that a pipeline can run."""

    model_id: str = Field(description="What a job names it by.")
    revision: str = Field("main", description="The commit or branch.")
    warm: bool = Field(False, description="It is in the device's memory now.")
    default: bool = Field(False, description="It runs where a job names none.")
    gpu_memory_gb: float | None = Field(None, description="What it is said to need on a card.")
    footprint_bytes: int | None = Field(None, ge=0, description="What it took when it was loaded, while it is warm.")
    capacity: int | None = Field(None, ge=1, description="How many jobs may be sent for it at once.")
    constraints: dict[str, Constraint] = Field({}, description="What its parameters may be, and their defaults.")
    price: Price | None = Field(None, description="Where the operator has set one.")


class Capability(_Told):
    """A pipeline, and what it can run."""

    pipeline: str = Field(description="As Hugging Face names the task.")
    models: list[OfferedModel] = Field([], description="None where the pipeline needs none.")


class WorkerLoad(_Told):
    """How busy a worker is."""

    running: int = Field(ge=0, description="Jobs on the device.")
    waiting: int = Field(ge=0, description="Jobs that wait for it, or for what they need before.")
    backlog_s: float | None = Field(
        None, ge=0, description="Seconds until the device is free, by the jobs before; left out where not known."
    )
    capacity: int = Field(ge=1, description="Jobs that the device runs at once.")
    queue_max: int | None = Field(None, ge=0, description="Jobs that may wait; more are refused.")


class Capabilities(_Told):
    """What a worker can run, and how busy it is."""

    version: str = Field(description="Of this software.")
    worker: str = Field(description="The worker's id, as its receipts have it.")
    load: WorkerLoad
    capabilities: list[Capability]
