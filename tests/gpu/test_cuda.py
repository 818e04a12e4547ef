"""The CUDA provider: used when it is requested, or refused; the same predictions as on the CPU."""

import ctypes
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.benchmarks import gpu_inference
from worker.errors import ProviderUnavailable
from worker.inference.model import open_model, replay_goldens
from worker.settings import DEFAULT_MODEL


def has_cuda() -> bool:
    """Whether a CUDA driver shows a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@pytest.mark.skipif(has_cuda(), reason="a CUDA device is here")
def test_cuda_is_refused_where_it_does_not_bind() -> None:
    with pytest.raises(ProviderUnavailable, match="CPUExecutionProvider"):
        open_model(DEFAULT_MODEL, provider="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    batch = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 1), dtype=np.uint8)
    cuda, cpu = open_model(DEFAULT_MODEL, provider="cuda"), open_model(DEFAULT_MODEL, provider="cpu")
    replay_goldens(cuda)
    assert cuda.provider == "CUDAExecutionProvider"
    ours, theirs = cuda.predict(batch), cpu.predict(batch)
    assert [p.probability for p in ours] == pytest.approx([p.probability for p in theirs], abs=2e-3)


@pytest.mark.parametrize(
    "provider",
    ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not has_cuda(), reason="no CUDA device")])],
)
def test_the_benchmark_of_inference_runs_every_way(provider: str) -> None:
    asked = ["--provider", provider, "--batch", "1", "--batch", "2", "--seconds", "0.01"]
    told = CliRunner().invoke(gpu_inference.main, asked, catch_exceptions=False)
    (file,) = json.loads(told.output)["files"]
    for row in file["batches"].values():
        assert set(row["images_per_s"]) >= {"predict", "bare", "bound"}
        assert max(row["probability_off_the_cpu"].values()) < 2e-3
        assert row["roofline_images_per_s"] > 0
    assert file["batches"]["2"]["megabytes"] > file["batches"]["1"]["megabytes"] > 20
