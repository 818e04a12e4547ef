"""Only words that name another body part, view or modality exclude an image; all others are screened and noted."""

from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sr import _cid_dict, _concepts_dict

from tests.ledger import image
from tests.phantoms import STUDY_UID, dicom_file, picture
from worker.errors import NoPixelData
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.instance import Instance
from worker.screening.rules import Answer, eligible

YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN

CHEST = (
    "CHEST", "Thorax", "TORAX", "TÓRAX PA", "TORACE", "POUMON", "Poumons", "POITRINE", "BRUSTKORB", "Lunge",
    "KLATKA PIERSIOWA", "HRUDNIK", "hrudník", "Lungor", "AKCİĞER", "Göğüs", "ГРУДНАЯ КЛЕТКА",
    "Органы грудной клетки", "лёгкие", "ΘΩΡΑΚΑΣ", "胸部", "胸片", "肺", "흉부", "가슴", "CXR", "THX", "CH",
    "BABYGRAM", "WHOLE BODY", "WHOLEBODY", "CHESTABDOMEN", "CHEST_TO_ABDOMEN", "NECKCHESTABDPELV", "ABDOMEN CHEST",
    "CHEST_HAND", "HIP/CHEST", "ABDOMEN\\CHEST", "RIBS", "TSPINE", "LUNGS & HEART",
)  # fmt: skip

ANOTHER = (
    "HIP", "HAND", "SKULL", "ABDOMEN", "BREAST", "LEFT HAND", "HAND_LEFT", "hand, left", "Hand 2 views",
    "KNEE AP/LAT", "C-SPINE", "CSPINE", "L SPINE", "LSSPINE", "Lower limb", "Structure of left hand",
    "Hip region structure", "Entire knee joint", "Hüfte links", "HUEFTE", "LWS", "HWS", "Kniegelenk re.",
    "Sprunggelenk", "main gauche", "Genou droit", "hanche", "Bassin", "rodilla izquierda", "MUÑECA", "Cadera",
    "mão direita", "joelho", "abdômen", "ginocchio destro", "Addome", "caviglia sx", "knie rechts", "Heup",
    "kolano lewe", "Staw biodrowy", "břicho", "koleno", "höft", "Knä vänster", "DİZ", "el bileği", "Kalça",
    "КИСТЬ", "Коленный сустав", "череп", "ΓΟΝΑΤΟ", "κρανίο", "左手正位", "膝关节", "腹部", "頭部", "右膝関節",
    "무릎", "손목", "ABDOMEN\\PELVIS",
)  # fmt: skip

NOT_UNDERSTOOD = (
    "", "UNKNOWN", "UNSPECIFIED", "OTHER", "N/A", "TRUNK", "TORSO", "UPPER TRUNK", "GENERAL", "DEFAULT", "*",
    "XYZZY", "0", "???", "BODY", "SPINE", "BACK", "THANDI", "PHARMA", "CHIP", "ARMADA", "HEADLINE", "SHIPPING",
    "C-ARM", "HAND HELD", "MAIN", "LEFT", "ABDOMEN NEWBORN", "NECK TO PELVIS", "head-to-toe", "HAND?", "NOS",
    "Trachea", "Oesophagus", "Jane Doe", "JOINT", "PA", "骨",
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [*((YES, w) for w in CHEST), *((NO, w) for w in ANOTHER), *((UNKNOWN, w) for w in NOT_UNDERSTOOD)],
)
def test_only_the_words_for_another_body_part_exclude(answer: Answer, words: str) -> None:
    eligibility = eligible(image(body_part=words))
    assert eligibility.chest is answer
    assert (eligibility.exclusion is not None) is (answer is NO)
    assert ("chest" in eligibility.unknowns) is (answer is UNKNOWN)


#: Parts of meanings in CID 4 and CID 4031 that lie inside the chest or include it.
IN_THE_CHEST = ("thora", "chest", "lung", "heart", "cardi", "rib", "sternum", "mediastin", "bronch", "pulmon", "body")


@pytest.mark.parametrize("cid", [4, 4031])
def test_no_meaning_of_the_standards_lists_excludes_the_chest(cid: int) -> None:
    concepts: Any = _concepts_dict.concepts["SCT"]
    meanings = {m for keyword in _cid_dict.cid_concepts[cid]["SCT"] for m, *_ in concepts[keyword].values()}
    answers = {meaning: eligible(image(body_part=meaning)).chest for meaning in meanings}
    for meaning, answer in answers.items():
        assert answer is not NO or not any(word in meaning.lower() for word in IN_THE_CHEST), meaning
    assert sum(answer is NO for answer in answers.values()) > 70, "those of other parts do exclude"


FRONTAL = (
    "AP", "pa", "PA ERECT", "Postero-anterior", "AP/LAT", "PA & LAT", "DE FACE", "Frente", "正位", "прямая",
    "AP DECUBITUS", "frontal", "AP supine", "Postero anterior (view)",
)  # fmt: skip

OTHER_VIEWS = (
    "LL", "LATERAL", "Left lateral", "LAT.", "profil gauche", "Seitlich", "perfil", "LATERALE", "boczna",
    "боковая проекция", "ΠΛΑΓΙΑ", "左侧位", "側面", "측면", "yan", "LAO", "AP OBLIQUE", "MLO", "Schräg", "oblicua",
    "antero-posterior oblique", "medio-lateral oblique", "LATERAL\\OBLIQUE",
)  # fmt: skip

UNCLEAR_VIEWS = (
    "", "X", "BILATERAL", "COLLATERAL", "STANDING", "AP LATERAL", "UNKNOWN", "LORDOTIC", "LEFT", "LL\\PA", "PA\\LL",
    "PA?",
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "view"),
    [*((YES, v) for v in FRONTAL), *((NO, v) for v in OTHER_VIEWS), *((UNKNOWN, v) for v in UNCLEAR_VIEWS)],
)
def test_only_the_words_for_another_view_exclude(answer: Answer, view: str) -> None:
    eligibility = eligible(image(view=view))
    assert eligibility.frontal is answer
    assert (eligibility.exclusion is not None) is (answer is NO)


@pytest.mark.parametrize(
    ("answer", "modality"),
    [
        *((YES, m) for m in ("CR", "dx", " RG", "CT\\DX")),
        *((NO, m) for m in ("CT", "MR", "US", "MG", "NM", "PT", "XA", "RF", "PR", "KO", "ct", "SR\\PR")),
        *((UNKNOWN, m) for m in ("", "OT", "XR", "RAD", "DR", "CTX", "??", "X-RAY", "CT\\OT", "COMPUTED RADIOGRAPHY")),
    ],
)
def test_only_another_declared_modality_excludes(answer: Answer, modality: str) -> None:
    eligibility = eligible(image(modality=modality))
    assert eligibility.radiograph is answer
    assert (eligibility.exclusion is not None) is (answer is NO)


@pytest.mark.parametrize("intent", ["", "PRESENTATION", "UNKNOWN", "FOR PROCESSING?", "FOR"])
def test_an_intent_that_is_no_defined_term_is_unknown(intent: str) -> None:
    assert eligible(image(presentation_intent_type=intent)).presentation is UNKNOWN


def header(**elements: Any) -> Instance:
    return read_instance(dicom_file(picture(), bits=12, **elements))


def coded(*meanings: str) -> list[Dataset]:
    items = []
    for meaning in meanings:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "SCT", meaning
        items.append(item)
    return items


def test_every_value_of_a_header_counts() -> None:
    assert eligible(header(BodyPartExamined=["ABDOMEN", "CHEST"])).chest is YES
    assert eligible(header(BodyPartExamined=["HIP", "PELVIS"])).chest is NO
    assert eligible(header(Modality=["OT", "DX"])).radiograph is YES


@pytest.mark.parametrize("named", [["ABDOMEN", "CHST"], ["HAND", "1"], ["HEAD", "ABDOMEN"], ["NECK", "PELVIS"]])
def test_a_value_that_is_not_understood_leaves_open_what_stands_beside_it(named: list[str]) -> None:
    """So do parts on both sides of the chest."""
    expected = NO if "1" in named else UNKNOWN
    assert eligible(header(BodyPartExamined=named)).chest is expected
    assert eligible(header(ViewPosition=["LL", "SPECIAL"])).frontal is UNKNOWN


@pytest.mark.parametrize(
    ("body_part", "region", "answer"),
    [
        (None, ("Hip joint",), NO), (None, ("Chest",), YES), (None, ("Abdomen", "Thoracic structure"), YES),
        ("", ("Hand",), NO), ("UNKNOWN", ("Hip",), NO), ("HIP", ("Chest",), YES), ("CHEST", ("Hip",), YES),
        ("UNKNOWN", ("Not stated",), UNKNOWN),
    ],
)  # fmt: skip
def test_the_anatomic_region_counts_beside_the_body_part(
    body_part: str | None, region: tuple[str, ...], answer: Answer
) -> None:
    without = ("BodyPartExamined",) if body_part is None else ()
    read = header(AnatomicRegionSequence=coded(*region), BodyPartExamined=body_part, without=without)
    assert eligible(read).chest is answer


def test_a_view_code_that_contradicts_the_view_position_leaves_it_open() -> None:
    assert eligible(header(ViewPosition="LL", ViewCodeSequence=coded("postero-anterior"))).frontal is UNKNOWN
    assert eligible(header(ViewPosition="X", ViewCodeSequence=coded("left lateral"))).frontal is NO


WRITTEN = (
    (None, "utf-8", "胸部", YES), ("ISO_IR 192", "utf-8", "胸部", YES), ("GB18030", "gb18030", "胸部", YES),
    (None, "utf-8", "кисть", NO), ("ISO_IR 192", "utf-8", "左手", NO), ("GB18030", "gb18030", "左手", NO),
    ("ISO_IR 144", "iso8859-5", "кисть", NO), ("ISO_IR 100", "latin-1", "HÜFTE", NO), (None, "latin-1", "HÜFTE", NO),
    ("ISO_IR 100", "latin-1", "TÓRAX", YES), (None, "latin-1", "TÓRAX", YES), (None, "gb18030", "左手", UNKNOWN),
    ("\\ISO 2022 IR 87", "iso2022_jp", "胸部", YES), ("\\ISO 2022 IR 87", "iso2022_jp", "左手", NO),
)  # fmt: skip


@pytest.mark.parametrize(("character_set", "encoding", "word", "answer"), WRITTEN)
def test_words_in_the_character_set_of_the_file(
    character_set: str | None, encoding: str, word: str, answer: Answer
) -> None:
    """Body Part Examined may hold ASCII alone, and stations write what their readers read."""
    written = word.encode(encoding)
    placeholder = b"Q" * (len(written) + len(written) % 2)
    elements: dict[str, Any] = {"BodyPartExamined": placeholder.decode(), "SpecificCharacterSet": character_set}
    without = ("SpecificCharacterSet",) if character_set is None else ()
    data = dicom_file(picture(), bits=12, without=without, **elements)
    read = read_instance(data.replace(placeholder, written.ljust(len(placeholder))))
    assert eligible(read).chest is answer


@pytest.mark.parametrize("without", [("PixelData",), ("PixelData", "Rows", "Columns", "BitsAllocated")])
def test_a_complete_image_object_without_pixel_data_is_not_truncated(without: tuple[str, ...]) -> None:
    with pytest.raises(NoPixelData, match="send the image itself") as caught:
        read_instance(dicom_file(picture(), bits=12, without=without))
    assert caught.value.code == "no_pixel_data"
    assert isinstance(caught.value.instance, Instance)
    assert caught.value.instance.study_uid == STUDY_UID


@pytest.mark.parametrize("modality", ["PR", "SR", "KO", "OT", "XR", "DX"])
@pytest.mark.parametrize(
    "sop_class",
    ["1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"],
    ids=["presentation_state", "report", "pdf"],
)
def test_a_document_is_no_radiograph_whatever_its_modality_says(sop_class: str, modality: str) -> None:
    document = read_instance(dicom_file(None, SOPClassUID=sop_class, Modality=modality))
    assert eligible(document).radiograph is NO


@pytest.mark.parametrize(("modality", "answer"), [("DX", YES), ("XR", UNKNOWN), ("SR", NO)])
def test_an_object_of_a_private_class_without_pixels_is_what_its_modality_says(modality: str, answer: Answer) -> None:
    """Nothing declares that it is a document; where it may be a radiograph its pixels are missing."""
    data = dicom_file(None, SOPClassUID="1.2.826.0.1.3680043.2.1.1", Modality=modality)
    assert eligible(read_instance(data)).radiograph is answer
    with pytest.raises(NoPixelData):
        read_display(data)
