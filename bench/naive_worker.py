"""A worker as tutorials have it: RunPod's SDK and diffusers at the top, the model loaded, then the loop."""

import sys
from typing import Any

import diffusers
import runpod

Pipeline: Any = diffusers.StableDiffusionPipeline  # it is not typed
pipe = Pipeline.from_pretrained(sys.argv.pop(), use_safetensors=True, local_files_only=True)


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Draw a picture, and say how large it is."""
    return {"size": pipe(job["input"]["prompt"]).images[0].size}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
