"""The baseline of a cold start: a script that loads the demo model with diffusers, and says when it is loaded."""

import sys
from typing import Any

import diffusers

Pipeline: Any = diffusers.StableDiffusionPipeline  # it is not typed

if __name__ == "__main__":
    Pipeline.from_pretrained(sys.argv[1], use_safetensors=True, local_files_only=True)
    sys.stdout.write("loaded\n")
    sys.stdout.flush()
