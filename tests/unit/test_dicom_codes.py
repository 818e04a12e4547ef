"""Every code of a report is one that pydicom's dictionary of PS3.16 has too, or stands with its reason on the page."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code

from worker.dicom.send import codes

CODES = [value for value in vars(codes).values() if isinstance(value, Code)]

#: Codes of no context group of PS3.16.
NOT_IN_THE_STANDARD = {codes.CHEST_XRAY, codes.PNEUMONIA, codes.ENGLISH}

PAGE = (Path(__file__).parents[2] / "deploy" / "CONFORMANCE.md").read_text(encoding="utf-8")


def meanings(code: Code) -> set[str]:
    """What the dictionary says that a code means, without the semantic tag of SNOMED CT."""
    of_scheme: dict[str, dict[str, Any]] = concepts.get(code.scheme_designator, {})  # type: ignore[assignment]
    found = [known[code.value][0] for known in of_scheme.values() if code.value in known]
    return {meaning.partition(" (")[0].lower() for meaning in found}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.value)
def test_a_code_means_what_the_standard_says(code: Code) -> None:
    if code in NOT_IN_THE_STANDARD:
        assert meanings(code) == set()
        section = PAGE[PAGE.index("Codes outside a context group") :]
        assert code.meaning.partition(" (")[0] in section
    else:
        assert code.meaning.lower() in meanings(code)


def test_only_what_the_page_says_is_outside_the_groups_of_the_template() -> None:
    def group(cid: int) -> set[str]:
        return {name for names in cid_concepts[cid].values() for name in names}

    assert "ImagingProcedure" in group(100)  # Procedure Reported of TID 1500
    assert {"Lung"} <= group(6129)
    assert "Suspected" in group(3770)
