"""A card is read as it was written, or refused with the fault."""

import json
from typing import Any

import numpy as np
import pytest

from tests.ledger import card
from worker.errors import ModelRefused
from worker.inference.card import CARD_KEY, GOLDENS_KEY, REFERENCE_KEY, Golden, ModelCard, Population, ReducedDecode
from worker.inference.lung_field import FieldLimits
from worker.inference.reference import MEASURES, make_reference


def full_card() -> ModelCard:
    golden = Golden("a.dcm", bytes(range(256)), 0.25, {"CPUExecutionProvider": 1e-4}, "CC BY 4.0")
    measured = {name: np.linspace(0, 1, 40) for name in MEASURES}
    return card(
        reference=make_reference(measured, [0] * 20 + [1] * 20, 0.5, "2" * 64),
        population=Population("children", 1, 5), familiarity_limit=31.5, bias=-0.7, attribution="CC BY 4.0",
        goldens=(golden,), field_limits=FieldLimits((0.1, 0.5), (0.6, 1.0), (0.0, 0.2), (0.8, 1.0)),
        reduced_decode=ReducedDecode(("jpeg_2000",), 0.1, 0.9, 0.05, 200, "2" * 64),
    )  # fmt: skip


@pytest.mark.parametrize("made", [card(), full_card()])
def test_a_card_comes_back_as_it_was_written(made: ModelCard) -> None:
    metadata = made.to_metadata()
    assert ModelCard.from_metadata(metadata) == made
    assert all(isinstance(value, str) for value in metadata.values())
    own = json.loads(metadata[CARD_KEY])
    assert "goldens" not in own, "they are bulky, and have a key of their own"
    assert "reference" not in own, "a worker that knows none refuses a card with a word more"


def test_a_card_of_before_reduced_decodes_reads_as_not_measured_and_is_written_as_before() -> None:
    metadata = card().to_metadata()
    assert "reduced_decode" not in json.loads(metadata[CARD_KEY]), "an older worker would refuse it"
    assert ModelCard.from_metadata(metadata).reduced_decode is None


def changed(**changes: Any) -> dict[str, str]:
    metadata = full_card().to_metadata()
    values = json.loads(metadata[CARD_KEY])
    for name, value in changes.items():
        here, *rest = name.split("__")
        if rest:
            values[here][rest[0]] = value
        elif value is None:
            del values[here]
        else:
            values[here] = value
    return metadata | {CARD_KEY: json.dumps(values)}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "no 'chest_screening.card'"),
        ({CARD_KEY: "no json"}, "cannot be read"),
        ({CARD_KEY: "[]"}, "cannot be read"),
        ({CARD_KEY: '"words"'}, "cannot be read"),
        (changed(card_version=2), "version 2, this worker reads 1"),
        (changed(card_version=None), "version None"),
        (changed(operating_point=None), "operating_point"),
        (changed(temperature=None), "temperature"),
        (changed(surprise=1), "surprise"),
        (changed(population={"min_age": 1}), "cannot be read"),
        (changed(metrics=[1]), "cannot be read"),
        (changed(reduced_decode={"codings": ["jpeg_2000"]}), "cannot be read"),
        (changed(reduced_decode__sure_below=0.95), "invalid bounds"),
        (changed(reduced_decode__familiarity_margin=float("nan")), "invalid bounds"),
        (changed(reduced_decode__sure_below=0.6), "outside the reduced-decode bounds"),
        (changed(preprocessing__resize="pyramid53"), "beside resize = pyramid53"),
        (changed(preprocessing__ranges_from="whole picture"), "whole picture"),
        (changed(preprocessing__size=0), "a grid of 0 px"),
        (changed(operating_point__threshold=float("nan")), "threshold"),
        (changed(operating_point__threshold=1.5), "threshold"),
        (changed(operating_point__threshold=-0.1), "threshold"),
        (changed(operating_point__threshold="half"), "threshold"),
        (full_card().to_metadata() | {GOLDENS_KEY: '[{"name": "a"}]'}, "cannot be read"),
        (full_card().to_metadata() | {GOLDENS_KEY: "{"}, "cannot be read"),
        (full_card().to_metadata() | {REFERENCE_KEY: "{}"}, "cannot be read"),
        (full_card().to_metadata() | {REFERENCE_KEY: "[1]"}, "cannot be read"),
    ],
)
def test_a_card_that_cannot_be_trusted_is_refused(metadata: dict[str, str], words: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        ModelCard.from_metadata(metadata)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("population", "age_years", "admitted"),
    [
        (Population("all"), 0.0, True),
        (Population("all"), None, True),
        (Population("children", 1, 5), 0.999, False),
        (Population("children", 1, 5), 1.0, True),
        (Population("children", 1, 5), 5.999, True),
        (Population("children", 1, 5), 6.0, False),
        (Population("children", 1, 5), None, True),
        (Population("adults", 18, None), 17.9, False),
        (Population("adults", 18, None), 99.0, True),
    ],
)
def test_ages_count_in_completed_years(population: Population, age_years: float | None, admitted: bool) -> None:
    assert population.admits(age_years) is admitted
