"""The bench of one pipeline, over the real runner and the demo models."""

import re

import pytest

from bench.pipeline import Run, main

FIGURES = r"""(text-to-image|image-to-image) with demo/text-to-image on cpu
pipeline load time: \d+\.\d{3} s
pipeline load max GPU memory: n/a
(warm-up, not counted: \d+\.\d{3} s
)?inference 1 of 1: \d+\.\d{3} s
inference max GPU memory: n/a
average inference time per run: (\d+\.\d{3}) s
average inference time per image: (\d+\.\d{3}) s
"""


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cpu")


@pytest.mark.parametrize("pipeline", ["text-to-image", "image-to-image"])
def test_times_and_memory_are_printed(pipeline: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--pipeline", pipeline, "--model_id", "demo/text-to-image", "--runs", "1"]
    main([*asked, "--num_inference_steps", "2", "--batch_size", "2"])
    printed = capsys.readouterr().out
    found = re.fullmatch(FIGURES, printed)
    assert found, printed
    assert float(found[4]) == pytest.approx(float(found[3]) / 2, abs=0.001)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["text-to-image", "demo/nothing"], "model_unavailable: model 'demo/nothing' is not here"),
        (["nothing", "demo/text-to-image"], "not_found: no pipeline 'nothing'"),
        (
            ["text-generation", "demo/text-generation", "--num_inference_steps", "2"],
            "invalid_input: 'text-generation' has no parameter num_inference_steps",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(args: list[str], error: str) -> None:
    pipeline, model_id, *more = args
    with pytest.raises(SystemExit) as ended:
        main(["--pipeline", pipeline, "--model_id", model_id, *more])
    assert str(ended.value).startswith(error)


def test_a_text_counts_as_one_output() -> None:
    assert Run.of({"text": "a", "metrics": {"run_s": 0.5}}) == Run(0.5, 1, "text", None)
