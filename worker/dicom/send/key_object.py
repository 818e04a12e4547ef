"""A Key Object that rejects the objects of earlier revisions (IHE IOCM). Pure."""

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from schema.vocabulary import DispatchKind
from worker.dicom.identity import MANUFACTURER, MODEL_NAME
from worker.dicom.send import codes
from worker.dicom.send.report import Device, finish, software_version
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.ledger.dispatch.dispatches import series_uid
from worker.ledger.dispatch.result_facts import Facts

SERIES_NUMBER = 9902


def rejection(facts: Facts, rejected: Sequence[Dataset], device: Device, sop_instance_uid: str) -> Dataset:
    """Rejects these objects of the study for quality reasons."""
    code = codes.REJECTED_FOR_QUALITY
    series = series_uid(facts.study_uid, facts.revision, facts.model_digest, DispatchKind.RETRACTION)
    with lenient_pydicom():
        made: Dataset = KeyObjectSelectionDocument(
            evidence=list(rejected),
            content=KeyObjectSelection(
                CodedConcept(code.value, code.scheme_designator, code.meaning), list(rejected),
                description="superseded by a newer result of chest-screening",
            ),
            series_instance_uid=series,
            series_number=SERIES_NUMBER, sop_instance_uid=sop_instance_uid, instance_number=1,
            manufacturer=MANUFACTURER, manufacturer_model_name=MODEL_NAME, device_serial_number=device.serial_number,
            software_versions=software_version(device, facts), specific_character_set=None,
        )  # fmt: skip
        finish(made, rejected[0], facts.at)
        return made
