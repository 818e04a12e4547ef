"""A model in float16 on a device that computes in float16."""

from pathlib import Path

import pytest

from tests.gpu.test_cuda import has_cuda
from tests.trainer_half import halve_shipped
from worker.inference.model import open_model, replay_goldens


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
@pytest.mark.parametrize(("made_on", "other"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_its_goldens_hold_on_the_other_provider_too(tmp_path: Path, made_on: str, other: str) -> None:
    out = tmp_path / "half.onnx"
    said = halve_shipped(out, "--provider", made_on)
    assert said.exit_code == 0, said.output
    for provider in (made_on, other):
        replay_goldens(open_model(out, provider))
