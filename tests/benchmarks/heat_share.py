"""The heat map's share of the time of one inference: operators that nothing but the heat map needs.

    python -m tests.benchmarks.heat_share [--write]

ONNX Runtime's own profile of the graph as it runs (after its optimizations), one image on one core.
"""

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime

from tests.benchmarks.machine import machine, tell
from worker.runtime import configuration

RESULT = Path(__file__).parent / "results" / "heat_share.json"

#: Runs of one image; the median of each operator counts.
RUNS = 200


def operator_s(model: Path, folder: Path) -> tuple[dict[str, float], onnx.GraphProto]:
    """Median seconds of each operator, and the graph they are in."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.optimized_model_filepath = str(folder / "as_it_runs.onnx")
    options.log_severity_level = 3  # it warns that the file would not be the best one elsewhere
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[1]
    image = np.random.default_rng(1).integers(0, 256, (1, side, side, 1), dtype=np.uint8)
    for _ in range(RUNS):
        session.run(None, {"image": image})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1e6)
    graph = onnx.load(folder / "as_it_runs.onnx").graph
    return {name: statistics.median(each) for name, each in times.items()}, graph


def needed_for(graph: onnx.GraphProto, outputs: Iterable[str]) -> set[str]:
    """Names of the operators that these outputs depend on."""
    maker = {output: node for node in graph.node for output in node.output}
    found, to_see = set[str](), list(outputs)
    while to_see:
        node = maker.get(to_see.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            to_see += node.input
    return found


def measured(model: Path) -> dict[str, Any]:
    """The share, and what it is made of."""
    with tempfile.TemporaryDirectory() as name:
        times, graph = operator_s(model, Path(name))
    verdict = needed_for(graph, ("probability", "familiarity"))
    only_heat = {name: s for name, s in times.items() if name not in verdict}
    return {
        "share": round(sum(only_heat.values()) / sum(times.values()), 5),
        "inference_ms": round(sum(times.values()) * 1e3, 3),
        "heat_map_ms": round(sum(only_heat.values()) * 1e3, 4),
        "operators": len(times),
        "of_the_heat_map": sorted(only_heat),
        "machine": machine(0.0, ("onnxruntime-gpu", "numpy")),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }


@click.command()
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/heat_share.json.")
def main(write: bool) -> None:
    """Measure, print."""
    tell(measured(configuration.load().model), RESULT if write else None)


if __name__ == "__main__":
    main()
