"""Times of repeated rounds of one kind of work: wall time, and CPU time of this process."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Laps:
    """The measured times, in seconds."""

    def __init__(self) -> None:
        self.walls_s: list[float] = []
        self.cpus_s: list[float] = []

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Time a round."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.walls_s.append(time.perf_counter() - wall)
        self.cpus_s.append(time.process_time() - cpu)

    def told(self) -> dict[str, float]:
        """Medians, and the time that 19 of 20 rounds keep, in milliseconds."""
        seconds = {
            "wall_ms": statistics.median(self.walls_s),
            "wall_p95_ms": statistics.quantiles(self.walls_s, n=20)[-1],
            "cpu_ms": statistics.median(self.cpus_s),
        }
        return {name: round(value * 1e3, 2) for name, value in seconds.items()} | {"rounds": len(self.walls_s)}
