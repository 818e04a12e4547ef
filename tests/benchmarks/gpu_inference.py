"""The network alone, on a GPU: the worker's own `predict` beside the bare ONNX Runtime loop and two ways to feed it.

    python -m tests.benchmarks.gpu_inference [MODEL ...] [--provider cuda] [--write]

The ways: *bare*, `session.run` on arrays of the host; *bound*, IO binding to buffers that stay on the device; *graph*,
the same replayed as one CUDA graph. Each on the same random images, in turns. The roofline is what the layers' weights
and activations weigh, read and written once each, over the bandwidth that a large copy reaches on the same device.
With `--provider cpu` it runs anywhere, without the graph.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.machine import Watch, machine, tell
from worker.inference.model import OUTPUTS, PROVIDER_OPTIONS, PROVIDERS, OnnxModel, open_model
from worker.settings import DEFAULT_MODEL

RESULT = Path(__file__).parent / "results" / "gpu_inference.json"

BATCHES = (1, 4, 16, 64)

#: Number of arrays that are used in turn: a single one would stay in a cache.
ARRAYS = 4

#: Size of the array whose copy gives the bandwidth.
COPIED_MIB = 512

Images = NDArray[np.uint8]
Run = Callable[[Images], Any]


def images(batch: int, size: int) -> list[Images]:
    """Random images: zeros may run faster than any radiograph."""
    rng = np.random.default_rng(batch)
    return [rng.integers(0, 256, (batch, size, size, 1), dtype=np.uint8) for _ in range(ARRAYS)]


def session_of(content: bytes, provider: str, **options: str) -> Any:
    """A session as the worker opens it, with more options of the provider."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    name = PROVIDERS[provider]
    if provider == "cuda":
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(
        content, settings, providers=[(name, PROVIDER_OPTIONS.get(name, {}) | options)]
    )
    if session.get_providers()[0] != name:
        raise click.ClickException(f"ONNX Runtime bound {session.get_providers()[0]}, not {name}")
    return session


def bound(session: Any, device: str, batch: int, size: int, outputs: dict[str, tuple[int, ...]], graph: int = 0) -> Run:
    """A run by buffers that stay on the device; `graph`: captured under this number, and replayed."""
    import onnxruntime

    value = onnxruntime.OrtValue
    given = value.ortvalue_from_numpy(np.zeros((batch, size, size, 1), np.uint8), device, 0)
    taken = [value.ortvalue_from_shape_and_type([batch, *shape], np.float32, device, 0) for shape in outputs.values()]
    binding = session.io_binding()
    binding.bind_ortvalue_input("image", given)
    for name, buffer in zip(outputs, taken, strict=True):
        binding.bind_ortvalue_output(name, buffer)
    options = onnxruntime.RunOptions()
    if graph:
        options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(batch_of_images: Images) -> list[Any]:
        given.update_inplace(batch_of_images)
        session.run_with_iobinding(binding, options)
        return [buffer.numpy() for buffer in taken]

    return run


def rates(runs: dict[str, Run], arrays: Sequence[Images], seconds: float) -> dict[str, float]:
    """Images a second of each way, in turns, by the median of its rounds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(arrays[0])
    ends = time.perf_counter() + seconds * len(runs)
    while time.perf_counter() < ends or len(next(iter(times.values()))) < 2 * ARRAYS:
        for array in arrays:
            for name, run in runs.items():
                began = time.perf_counter()
                run(array)
                times[name].append(time.perf_counter() - began)
    return {name: round(len(arrays[0]) / statistics.median(taken), 1) for name, taken in times.items()}


def bytes_of(content: bytes, batch: int) -> int:
    """What the layers read and write at least: weights once, the input and output of each convolution and product."""
    import onnx

    graph = onnx.load_from_string(content)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    graph = onnx.shape_inference.infer_shapes(graph)
    sizes = {tensor.name: tensor_bytes(tensor) for tensor in (*graph.graph.value_info, *graph.graph.output)}
    weights = {each.name: each.ByteSize() for each in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    return sum(sizes.get(name, weights.get(name, 0)) for node in layers for name in (*node.input, *node.output))


def tensor_bytes(tensor: Any) -> int:
    """Bytes of a tensor whose shape is known; 0 otherwise."""
    import onnx

    kind = tensor.type.tensor_type
    sides = [dim.dim_value for dim in kind.shape.dim]
    return int(np.prod(sides) * onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)


def copied_gb_per_s(provider: str) -> float:
    """Bytes read and written a second while a large array is negated on the device."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    count = COPIED_MIB * 2**20 // 4
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [count]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "copy", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = session_of(onnx.ModelProto.SerializeToString(model), provider)
    device = "cuda" if provider == "cuda" else "cpu"
    value = onnxruntime.OrtValue
    given = value.ortvalue_from_numpy(np.ones(count, np.float32), device, 0)
    taken = value.ortvalue_from_shape_and_type([count], np.float32, device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output("y", taken)
    times = []
    for _ in range(10):
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - began)
    return 2 * COPIED_MIB * 2**20 / min(times) / 1e9


def measure(path: Path, provider: str, batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """Every way at every batch size for one file, and the difference from the CPU's predictions."""
    content = path.read_bytes()
    model = open_model(path, provider)
    witness = open_model(path, "cpu")
    size = model.card.preprocessing.size
    device = "cuda" if provider == "cuda" else "cpu"
    shapes = shapes_of(model, size)
    graphs = session_of(content, provider, enable_cuda_graph="1") if provider == "cuda" else None
    rows = {}
    for number, batch in enumerate(batches, 1):
        arrays = images(batch, size)
        runs: dict[str, Run] = {
            "predict": lambda array: model.predict(array),
            "bare": lambda array: model.session.run(list(OUTPUTS), {"image": array}),
            "bound": bound(model.session, device, batch, size, shapes),
        }
        if graphs is not None:
            runs["graph"] = bound(graphs, device, batch, size, shapes, graph=number)
        found: dict[str, Any] = {"images_per_s": rates(runs, arrays, seconds)}
        found["predict_of_bare"] = round(found["images_per_s"]["predict"] / found["images_per_s"]["bare"], 3)
        found["megabytes"] = round(bytes_of(content, batch) / 1e6, 1)
        wanted = np.array([said.probability for said in witness.predict(arrays[0][:16])])
        found["probability_off_the_cpu"] = {
            name: float(np.abs(probabilities(run(arrays[0]))[:16] - wanted).max()) for name, run in runs.items()
        }
        rows[str(batch)] = found
    return {"digest": model.digest, "name": model.card.name, "bytes": len(content), "batches": rows}


def shapes_of(model: OnnxModel, size: int) -> dict[str, tuple[int, ...]]:
    """The shape of each output, without the batch."""
    given = model.session.run(list(OUTPUTS), {"image": np.zeros((1, size, size, 1), np.uint8)})
    return {name: tuple(array.shape[1:]) for name, array in zip(OUTPUTS, given, strict=True)}


def probabilities(answer: Any) -> NDArray[np.float64]:
    """The probabilities in the outputs of a way."""
    first = answer[0]
    return np.asarray(first if isinstance(first, np.ndarray) else [said.probability for said in answer], np.float64)


@click.command()
@click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", type=click.Choice(sorted(PROVIDERS)), default="cuda", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=BATCHES, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="For each way and batch size.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/gpu_inference.json.")
def main(models: Sequence[Path], provider: str, batches: Sequence[int], seconds: float, write: bool) -> None:
    """Measure, print JSON."""
    watch = Watch()
    bandwidth = copied_gb_per_s(provider)
    files = [measure(path, provider, batches, seconds) for path in models or (DEFAULT_MODEL,)]
    for file in files:
        for batch, row in file["batches"].items():
            row["roofline_images_per_s"] = round(int(batch) / (row["megabytes"] * 1e6 / (bandwidth * 1e9)), 1)
    found = {
        "provider": PROVIDERS[provider],
        "copied_gb_per_s": round(bandwidth, 1),
        "files": files,
        "machine": machine(watch.share_taken_by_others(), ("numpy", "onnxruntime-gpu")),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
