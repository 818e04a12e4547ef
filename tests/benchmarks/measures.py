"""Each measure of speed with its target, from the files in tests/benchmarks/results."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

RLE, JPEG_LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"

#: What was measured on two cores of an EPYC before files were linked; it must not have become worse.
STAT_P95_S, COLD_S, NEXT_50_MS = 0.732, 2.7, {"sqlite": 1.97, "postgresql": 3.31}

#: Ours in `throughput` -> in words, and how many times as fast as the plain way it is to be.
AGAINST_THE_PLAIN_WAY = {
    "move": ("uncompressed 3056 × 2544 studies, drop to committed row with heat maps, mode `move`", 5),
    "copy": ("the same in mode `copy`", 4),
    "leave": ("the same in mode `leave`", 5),
    "jpeg2000": ("JPEG 2000 lossless, mode `move`", 15),
    "htj2k": ("HTJ2K lossless, mode `move`", 10),
}


@dataclass(frozen=True)
class Row:
    """A measure, its target, and what came out."""

    what: str
    target: float | None  #: None: it is only reported
    value: float | None  #: None: not measured
    unit: str
    is_ceiling: bool = False  #: the target is the most that is allowed
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the target is reached; a measure without one has none to miss."""
        return self.target is None or (self.value is not None and self.reached >= 1)

    @property
    def reached(self) -> float:
        """How much of the target is reached; 1 and more is enough, 0 what is not measured."""
        if not self.value or self.target is None:
            return 0.0
        return self.target / self.value if self.is_ceiling else self.value / self.target

    def markdown(self) -> str:
        """The row of the table."""
        wanted = "reported" if self.target is None else f"{'≤' if self.is_ceiling else '≥'} {self.target:g}{self.unit}"
        found = "not measured" if self.value is None else f"{self.value:g}{self.unit}"
        verdict = "" if self.is_met or self.value is None else " **missed**"
        return f"| {self.what} | {wanted} | {found}{verdict} | {self.note} |"


def result(name: str) -> dict[str, Any]:
    """One file of results; empty when there is none."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    assert isinstance(found, dict)
    return found


def rows() -> Iterator[Row]:
    """Every measure."""
    yield from throughput(result("throughput"))
    yield from alone(result("taking_in"), result("pyramid"))
    yield from lasting(result("endurance"), result("cold"), result("archive"))
    yield from decoding(result("decoders")["syntaxes"], result("heat_share"))
    yield from gpu(result("gpu_pipeline").get("runs", {}).get("uncompressed", {}))


def throughput(found: dict[str, Any]) -> Iterator[Row]:
    """Against two other programs on the same files, and against the stages alone."""
    rounds = found.get("rounds", [])
    for name, (what, target) in AGAINST_THE_PLAIN_WAY.items():
        ratio = found.get("times_the_plain_way", {}).get(name)
        note = "" if ratio is None else _of_rounds(found, name)
        yield Row(f"{what}, against the plain way", target, ratio, "×", note=note)
    if rounds:
        keras = [each["times_the_keras_way"] for each in rounds]
        shares = [each["of_roofline"] for each in rounds]
        yield Row(
            "mode `move` against the Keras way", 20, found["times_the_keras_way"], "×",
            note=f"{found['keras_ms']:g} ms; {min(keras):g} to {max(keras):g} in {len(rounds)} rounds",
        )  # fmt: skip
        yield Row(
            "the same, of the roofline", 0.85, found["of_roofline"], "",
            note=f"{found['studies_per_s']['move']:g} a second of {found['roofline_studies_per_s']:g};"
            f" {min(shares):g} to {max(shares):g}; {found['of_roofline_reading_once']:g} of one that reads a file once",
        )  # fmt: skip
    else:
        yield Row("mode `move` against the Keras way", 20, None, "×")
        yield Row("the same, of the roofline", 0.85, None, "")


def _of_rounds(found: dict[str, Any], name: str) -> str:
    """The rate, the plain way's time, each round's ratio, and how many files were linked into the store."""
    ratios = [each["times_the_plain_way"][name] for each in found["rounds"]]
    kind = name if name in found["plain_ms"] else "uncompressed"
    linked = f"; {found['linked'][name]:,} of {found['studies'][name]:,} files linked" if found["linked"][name] else ""
    rounds = f"{min(ratios):g} to {max(ratios):g} in {len(ratios)} rounds"
    return f"{found['studies_per_s'][name]:g} a second, {found['plain_ms'][kind]:g} ms; {rounds}{linked}"


def alone(taking_in: dict[str, Any], pyramid: dict[str, Any]) -> Iterator[Row]:
    """Intake without workers, and decoding without a service."""
    move, copy = taking_in["move"], taking_in["copy"]
    yield Row(
        "intake alone, mode `move`, files a second and core", 75, move["files_a_second_and_core"], "",
        note=f"{move['cpu_ms']:g} ms of CPU time; mode `copy` {copy['files_a_second_and_core']:g}",
    )  # fmt: skip
    syntaxes, pictures = pyramid["lossless"], pyramid["pictures"]
    equal = sum(each["equal"] == pictures for each in syntaxes.values())
    yield Row(
        "lossless transfer syntaxes that give equal bytes on the model's grid", len(syntaxes), equal, "",
        note=f"{pictures} pictures, {pyramid['grid_px']} px",
    )  # fmt: skip
    jpeg_2000 = syntaxes[JPEG_2000]
    yield Row(
        "JPEG 2000 decoded for the pyramid, against in full", 10,
        round(jpeg_2000["in_full_ms"] / jpeg_2000["pyramid_ms"], 2), "×",
        note=f"{jpeg_2000['pyramid_ms']:g} ms, {jpeg_2000['in_full_ms']:g}",
    )  # fmt: skip


def lasting(long: dict[str, Any], cold: dict[str, Any], archive: dict[str, Any]) -> Iterator[Row]:
    """Over thousands of images, from a cold start, and with a million studies."""
    yield Row(
        "two worker processes over one, on two cores", 1.8, long["two_processes_over_one"], "×",
        note=" and ".join(f"{rate:g}" for rate in long["rescreened_per_s"].values()) + " a second, intake aside",
    )  # fmt: skip
    memory = long["memory"]
    yield Row("memory of a worker, most", 250, memory["most_mib"], " MiB", is_ceiling=True)
    yield Row(
        f"the same over {memory['images']:,} images, last tenth over second",
        1.03, max(memory["last_tenth_over_second"]), "", is_ceiling=True,
    )  # fmt: skip
    stat = long["stat_settled_to_row_s"]
    yield Row(
        f"STAT study behind {stat['behind']:,} routine ones, settled to committed row, p95",
        STAT_P95_S, stat["p95"], " s", is_ceiling=True, note=f"median {stat['p50']:g} s, n = {stat['n']}",
    )  # fmt: skip
    yield Row(
        "`worker screen` of one file, cold process to printed row", COLD_S, cold["screen_first"]["median_s"], " s",
        is_ceiling=True, note=f"median of {cold['rounds']}; most {cold['screen_first']['most_s']:g} s",
    )  # fmt: skip
    for kind, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        next_50 = archive[kind]["alone"]["next_50"]
        yield Row(
            f"worklist of {archive[kind]['studies']:,} studies, the next 50, {name}",
            NEXT_50_MS[kind], next_50["wall_ms"], " ms", is_ceiling=True, note=f"{next_50['cpu_ms']:g} ms of CPU time",
        )  # fmt: skip


def decoding(decoders: dict[str, Any], share: dict[str, Any]) -> Iterator[Row]:
    """Exact decoding in full, against pydicom; and what the heat map costs."""
    rle = decoders[RLE]
    yield Row(
        "decode of RLE, exact, against pydicom's own",
        5,
        round(rle["plugins_ms"]["pydicom"] / rle["ours_ms"], 2),
        "×",
        note=f"{rle['ours_ms']:g} ms, {rle['plugins_ms']['pydicom']:g}; {rle['times_as_fast']:g}× its choice",
    )
    for name, uid, target in (
        ("JPEG Lossless", JPEG_LOSSLESS, 2),
        ("JPEG-LS", JPEG_LS, 1.5),
        ("JPEG 2000", JPEG_2000, 1.3),
    ):
        one = decoders[uid]
        theirs = "pydicom has no decoder" if one["pydicom_ms"] is None else f"{one['pydicom_ms']:g}"
        yield Row(
            f"decode of {name}, exact, against pydicom's choice of GDCM, Pillow and pylibjpeg",
            target,
            one["times_as_fast"],
            "×",
            note=f"{one['ours_ms']:g} ms, {theirs}",
        )
    yield Row(
        "heat map's share of inference", 2, round(share["share"] * 100, 2), " %", is_ceiling=True,
        note=f"{share['heat_map_ms']:g} of {share['inference_ms']:g} ms",
    )  # fmt: skip


def gpu(run: dict[str, Any]) -> Iterator[Row]:
    """The whole service with a GPU, where one is at hand."""
    busy = (run.get("gpu") or {}).get("busy_share")
    note = "" if busy is None else f"GPU busy {busy:.0%} of the time; limited by {run['limited_by']}"
    yield Row(
        "the whole service with a GPU, studies a second",
        None,
        run.get("studies_per_s") if note else None,
        "",
        note=note,
    )
