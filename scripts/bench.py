"""The time and memory of one pipeline: `bench/pipeline.py`, from any folder.

python bench.py --pipeline text-to-image --model_id demo/text-to-image --runs 3 --num_inference_steps 8 --batch_size 1
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# this folder goes: it has a bench.py, which would be found before the package of that name
sys.path[:] = [str(HERE.parent), *(folder for folder in sys.path if Path(folder).resolve() != HERE)]
runpy.run_module("bench.pipeline", run_name="__main__", alter_sys=True)
