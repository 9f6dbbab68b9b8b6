"""An entry of an orchestrator's aiModels.json, in the words of models.json."""

import re
from collections.abc import Mapping
from typing import Any

PIPELINES = {"llm": "text-generation"}
PRICE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([A-Za-z]{1,8})")
OFF = ("", "0", "false")


def translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """As go-livepeer reads `AIModelConfig`: other names of pipelines, a price with its currency, `""` for none."""
    entry = {name: value for name, value in given.items() if name != "currency" or value != ""}
    price, pipeline = entry.get("price_per_unit"), entry.get("pipeline")
    if isinstance(price, str) and (found := PRICE.fullmatch(price)):
        entry = {"currency": found[2], **entry, "price_per_unit": found[1]}
    if isinstance(pipeline, str):
        entry["pipeline"] = PIPELINES.get(pipeline, pipeline)
    return entry


def switched_on(flags: Mapping[str, Any]) -> list[str]:
    """The optimization flags that ask for something."""
    return [name for name, value in flags.items() if str(value).lower() not in OFF]
