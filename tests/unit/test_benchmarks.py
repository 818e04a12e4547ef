"""Ratios of speed are of one round; the table says what was missed and what was not measured; every part can be run."""

from importlib import import_module
from typing import Any

import pytest

from tests.benchmarks import __main__ as all_parts
from tests.benchmarks.measures import JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE, Row, decoding, throughput
from tests.benchmarks.rounds import KINDS, OURS, Round, middle
from tests.benchmarks.service import Run
from tests.benchmarks.stages import READ_AGAIN, Costs


def a_round(drop_to_last_row_s: float, plain_s: float) -> Round:
    """A hundred studies in every mode, all linked in mode `move`."""
    costs = Costs({READ_AGAIN: 0.2, "inference": 0.8}, {READ_AGAIN: 0.2, "inference": 0.8})
    ours = {
        name: Run(100, drop_to_last_row_s, 1.0, 100 if str(mode) == "move" else 0) for name, (_, mode) in OURS.items()
    }
    return Round(ours, dict.fromkeys(KINDS, plain_s), 0.5, costs, alone=20)


def found(*rounds: Round) -> dict[str, Any]:
    """As `throughput` keeps it."""
    told = [each.told(cores=2) for each in rounds]
    linked = {name: sum(each.ours[name].linked for each in rounds) for name in OURS}
    return {**middle(told), "rounds": told, "linked": linked, "studies": dict.fromkeys(OURS, 100 * len(rounds))}


def test_a_ratio_is_of_one_round_and_what_is_told_is_the_median() -> None:
    """The second round's machine is half as fast for both: its ratio is the first one's, whatever the rates are."""
    told = found(a_round(4.0, 0.2), a_round(8.0, 0.4), a_round(5.0, 0.2))
    assert [each["times_the_plain_way"]["move"] for each in told["rounds"]] == [5.0, 5.0, 4.0]
    assert told["times_the_plain_way"]["move"] == 5.0
    assert told["times_the_keras_way"] == 10.0  # 20 a second of 0.5 s each


def test_the_roofline_is_told_with_and_without_the_second_reading() -> None:
    (told,) = found(a_round(4.0, 0.2))["rounds"]
    assert told["roofline_studies_per_s"] == 40.0  # 50 ms of a core each
    assert told["of_roofline"] == 0.625
    assert told["of_roofline_reading_once"] == 0.5  # of 50 a second


def test_the_table_has_each_rounds_ratio_and_how_many_files_were_linked() -> None:
    rows = {row.what.split(",")[0]: row for row in throughput(found(a_round(4.0, 0.2), a_round(5.0, 0.2)))}
    move, copy = rows["uncompressed 3056 × 2544 studies"], rows["the same in mode `copy`"]
    assert "4 to 5 in 2 rounds; 200 of 200 files linked" in move.note
    assert "linked" not in copy.note
    assert move.markdown().startswith(
        "| uncompressed 3056 × 2544 studies, drop to committed row with heat maps, mode `move`"
    )
    assert "**missed**" in move.markdown()  # 4.5 of 5
    assert "**missed**" not in copy.markdown()


def test_what_the_plain_way_cannot_decode_is_not_measured() -> None:
    one = a_round(4.0, 0.2)
    del one.plain_s["htj2k"]
    (row,) = [row for row in throughput(found(one)) if row.what.startswith("HTJ2K")]
    assert row.value is None
    assert "not measured" in row.markdown()


def test_a_syntax_that_pydicom_cannot_decode_here_is_not_measured() -> None:
    ours: dict[str, Any] = {"ours_ms": 10.0, "pydicom_ms": None, "times_as_fast": None, "plugins_ms": {}}
    rle = ours | {"pydicom_ms": 90.0, "times_as_fast": 9.0, "plugins_ms": {"pydicom": 90.0}}
    share = {"share": 0.01, "heat_map_ms": 0.1, "inference_ms": 9.0}
    first, *others, _ = decoding({RLE: rle, JPEG_LOSSLESS: ours, JPEG_LS: ours, JPEG_2000: ours}, share)
    assert first.value == 9.0
    assert [row.markdown().count("not measured | 10 ms, pydicom has no decoder") for row in others] == [1, 1, 1]


@pytest.mark.parametrize(
    ("row", "is_met", "reached"),
    [
        (Row("a floor", 5, 6, "×"), True, 1.2),
        (Row("a floor", 5, 4, "×"), False, 0.8),
        (Row("a ceiling", 2.0, 4.0, " s", is_ceiling=True), False, 0.5),
        (Row("not measured", 5, None, "×"), False, 0.0),
        (Row("only reported", None, 3, ""), True, 0.0),
    ],
)
def test_a_target_is_met_or_missed(row: Row, *, is_met: bool, reached: float) -> None:
    assert row.is_met is is_met
    assert row.reached == pytest.approx(reached)


@pytest.mark.slow  # a part loads TensorFlow
@pytest.mark.parametrize("part", all_parts.PARTS)
def test_every_part_takes_the_options_of_a_small_run_and_of_one_that_is_kept(part: str) -> None:
    command = import_module(f"tests.benchmarks.{part}").main
    for is_small, is_kept in ((True, False), (False, True)):
        words = all_parts.options(part, images=300, rounds=1, is_small=is_small, is_kept=is_kept)
        command.make_context(part, words).close()
