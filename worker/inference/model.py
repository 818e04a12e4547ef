"""An opened model file: its card, its digest, the provider that was really bound, and its predictions.

ONNX Runtime is loaded when a model is opened, not before.
"""

import contextlib
import ctypes
import hashlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.errors import DeviceUnavailable, ModelRefused, ProviderUnavailable, Rejected
from worker.inference.card import ModelCard
from worker.inference.prediction import Prediction

#: Setting -> execution provider.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

#: Batches are padded to these sizes: memory on a GPU grows with every new shape (onnxruntime#24376).
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

#: The largest batch that is run at once. A larger one is no faster on a core, and needs more memory.
LARGEST_BATCH = {PROVIDERS["cpu"]: 16, PROVIDERS["cuda"]: 64}

#: Arithmetic of a provider. TensorFloat-32, CUDA's default, would round the factors of a float32 model to 10 bits. For
#: less precision than float32, export a float16 model, which has its own metrics and goldens.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {PROVIDERS["cuda"]: {"use_tf32": "0"}}

#: The tensor contract of every model file: name -> (element type, rank).
INPUTS = {"image": ("tensor(uint8)", 4)}
OUTPUTS = {"probability": ("tensor(float)", 1), "heatmap": ("tensor(float)", 3), "familiarity": ("tensor(float)", 1)}
#: The output of a model whose card has limits for the lung field.
LUNGS_OUTPUT = {"lungs": ("tensor(float)", 3)}

#: By default ONNX Runtime runs a batch again on the CPU when the device fails, and says so on standard output only.
NO_FALLBACK = 0

#: What ONNX Runtime says of a device that fails while a model is loaded.
_DEVICE_FAULT = re.compile(r"(CUDA|CUDNN|CUBLAS|CUFFT)\w* (failure|error)|cudaSetDevice|BFCArena", re.IGNORECASE)

#: ONNX Runtime's severities: by default, warnings and worse go to standard error; with `SILENT`, nothing does.
_WARNING, _FATAL = 2, 4


class Model(Protocol):
    """What the worker needs from a model."""

    @property
    def card(self) -> ModelCard:
        """The card in the model file."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model file, hexadecimal."""

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime bound."""

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """One prediction for each image of [N, H, W, 1]."""


@dataclass(frozen=True)
class OnnxModel:
    """A Model run by ONNX Runtime."""

    card: ModelCard
    digest: str
    provider: str
    session: Any

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """One prediction for each image of [N, size, size, 1] uint8, in their order.

        Raises DeviceUnavailable when the device fails, ValueError when the batch breaks the contract.
        """
        size = self.card.preprocessing.size
        if batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 1):
            raise ValueError(f"a batch is uint8 [N, {size}, {size}, 1], not {batch.dtype} {list(batch.shape)}")
        largest = LARGEST_BATCH[self.provider]
        starts = range(0, len(batch), largest)
        return [prediction for start in starts for prediction in self._predict(batch[start : start + largest])]

    def _predict(self, batch: NDArray[np.uint8]) -> Iterator[Prediction]:
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

        count = len(batch)
        padded = next(size for size in BATCH_SIZES if size >= count)
        filled = np.concatenate([batch, np.zeros((padded - count, *batch.shape[1:]), np.uint8)])
        try:
            found = self.session.run(list(_outputs(self.card)), {"image": filled})
        except (RuntimeError, EPFail, Fail, RuntimeException) as error:
            raise DeviceUnavailable(f"{self.provider} failed on a batch of {padded}: {error}") from error
        probability, heatmap, familiarity, *lungs = found
        for i in range(count):
            yield Prediction(
                float(probability[i]),
                np.asarray(heatmap[i], np.float32),
                float(familiarity[i]),
                np.asarray(lungs[0][i], np.float32) if lungs else None,
            )


def open_model(path: Path, provider: str = "auto", threads: int = 1) -> OnnxModel:
    """Open the model file on `provider`: "cpu", "cuda", or "auto" (CUDA if a device really binds, else CPU).

    `threads` is how many cores one prediction may use. Raises ModelRefused when the file is no ONNX model, has no card
    or breaks the tensor contract; ProviderUnavailable when another provider was bound than the one asked for;
    DeviceUnavailable when the device itself fails.
    """
    return open_content(_read(path), str(path), provider, threads)


def open_content(content: bytes, name: str, provider: str = "auto", threads: int = 1) -> OnnxModel:
    """Open a model from the bytes of its file, as `open_model` does; errors call it `name`."""
    session = _bind(content, name, provider, threads)
    card = _card(session, name)
    model = OnnxModel(card, hashlib.sha256(content).hexdigest(), session.get_providers()[0], session)
    _require_contract(session, card, name)
    return model


def replay_goldens(model: Model) -> None:
    """Send each golden file through decode, preprocess and `model`; raises ModelRefused at the first that differs.

    This proves that decoder, resize operator and provider behave here as they did when the model was measured.
    """
    from worker.imaging.image_file import read_grid

    if not model.card.goldens:
        raise ModelRefused("the model file contains no golden files, so it cannot be checked: export it again")
    for golden in model.card.goldens:
        tolerance = golden.tolerances.get(model.provider)
        if tolerance is None:
            raise ModelRefused(f"golden {golden.name!r} states no tolerance for {model.provider}: use another provider")
        try:
            grid = read_grid(golden.content, model.card.preprocessing)
        except Rejected as error:
            raise ModelRefused(f"golden {golden.name!r} cannot be read here ({error}): check the decoders") from error
        probability = model.predict(grid[None])[0].probability
        if not abs(probability - golden.probability) <= tolerance:  # NaN fails too
            raise ModelRefused(
                f"golden {golden.name!r} gives probability {probability:.6f}, the card says {golden.probability:.6f}"
                f" (tolerance {tolerance:g} on {model.provider}): results here differ from those measured"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"cannot be read ({error.strerror}): check the path of the model").about(
            str(path)
        ) from error


def _card(session: Any, name: str) -> ModelCard:
    try:
        return ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ModelRefused as error:
        raise error.about(name) from error


def _bind(content: bytes, name: str, provider: str, threads: int) -> Any:
    """A session on the requested provider; "auto" tries CUDA if a driver shows a device."""
    if provider == "auto":
        if _has_cuda_device():
            # a driver too old for this ONNX Runtime raises; a faulty model is refused on the CPU too
            with contextlib.suppress(ModelRefused, DeviceUnavailable):
                session = _session(content, name, PROVIDERS["cuda"], threads)
                if session.get_providers()[0] == PROVIDERS["cuda"]:
                    return session
        return _session(content, name, PROVIDERS["cpu"], threads)
    if provider not in PROVIDERS:
        raise ProviderUnavailable(f"no provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    session = _session(content, name, PROVIDERS[provider], threads)
    bound = session.get_providers()[0]
    if bound != PROVIDERS[provider]:
        raise ProviderUnavailable(
            f"asked for {PROVIDERS[provider]}, ONNX Runtime bound {bound}: install CUDA 13 and cuDNN 9 (`pip"
            " install -r docker/cuda.lock`) and a driver of series 580 or later, or choose auto or cpu"
        )
    return session


def _session(content: bytes, name: str, provider: str, threads: int) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    refusals = (state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument, state.Fail, state.NotImplemented)
    # ModelRefused or ProviderUnavailable names what is missing, instead of a page of dlopen errors
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if provider == PROVIDERS["cuda"]:
                onnxruntime.preload_dlls()  # finds the CUDA libraries that pip installed
            chosen = [(provider, PROVIDER_OPTIONS.get(provider, {}))]
            return onnxruntime.InferenceSession(content, options, providers=chosen, enable_fallback=NO_FALLBACK)
    except (*refusals, state.RuntimeException, state.EPFail, RuntimeError) as error:
        if provider != PROVIDERS["cpu"] and (_DEVICE_FAULT.search(str(error)) or not isinstance(error, refusals)):
            raise DeviceUnavailable(f"{provider} cannot be used ({error})") from error
        raise ModelRefused(f"ONNX Runtime cannot load it ({error})").about(name) from error
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _has_cuda_device() -> bool:
    """Whether the NVIDIA driver is installed and shows a device: faster than loading the whole provider to find out."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _outputs(card: ModelCard) -> dict[str, tuple[str, int]]:
    """The outputs of a model with this card."""
    return OUTPUTS if card.field_limits is None else OUTPUTS | LUNGS_OUTPUT


def _require_contract(session: Any, card: ModelCard, name: str) -> None:
    """Check names, element types and ranks against the contract, and the input size against the card."""
    outputs = _outputs(card)
    for kind, wanted, found in (("input", INPUTS, session.get_inputs()), ("output", outputs, session.get_outputs())):
        has = {tensor.name: (tensor.type, len(tensor.shape)) for tensor in found}
        if has != wanted:
            raise ModelRefused(f"breaks the tensor contract: {kind}s are {has}, not {wanted}").about(name)
    size = card.preprocessing.size
    shape = session.get_inputs()[0].shape
    if shape[1:] != [size, size, 1]:
        raise ModelRefused(f"breaks the tensor contract: the card says {size} px, the graph {shape}").about(name)
