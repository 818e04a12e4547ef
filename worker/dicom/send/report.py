"""A result as a Structured Report: TID 1500 with one measurement group. Pure: facts and a header in, a data set out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    FindingSite,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from schema.setting_values import ReportClass
from schema.vocabulary import DispatchKind, Verdict
from worker.dicom.identity import MANUFACTURER, MODEL_NAME
from worker.dicom.send import codes
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.ledger.dispatch.dispatches import SentObject, result_uid, series_uid
from worker.ledger.dispatch.result_facts import Facts, ReportedImage

TRACKING_IDENTIFIER = "chest-screening/pneumonia"

CLASSES = {ReportClass.COMPREHENSIVE_3D: Comprehensive3DSR, ReportClass.ENHANCED: EnhancedSR}

#: Series number of our reports; those of the source begin at 1.
SERIES_NUMBER = 9901


@dataclass(frozen=True)
class Device:
    """This installation as the observer."""

    uid: str
    release: str

    @property
    def serial_number(self) -> str:
        """The end of its UID."""
        return self.uid[-32:]


def report(
    facts: Facts, header: Dataset, device: Device, sop_instance_uid: str, report_class: ReportClass,
    predecessors: Sequence[Dataset] = (),
) -> Dataset:  # fmt: skip
    """The report of a result, the same whenever it is made again. `predecessors`: references to earlier reports."""
    with lenient_pydicom():  # the header is a peer's
        made: Dataset = CLASSES[report_class](
            evidence=[reference(header, image) for image in facts.images],
            content=_content(facts, device)[0],
            series_instance_uid=series_uid(facts.study_uid, facts.revision, facts.model_digest, DispatchKind.REPORT),
            series_number=SERIES_NUMBER, sop_instance_uid=sop_instance_uid, instance_number=1,
            manufacturer=MANUFACTURER, manufacturer_model_name=MODEL_NAME, device_serial_number=device.serial_number,
            software_versions=software_version(device, facts), is_complete=True, is_final=False, is_verified=False,
            previous_versions=list(predecessors) or None, series_description="AI result RESEARCH ONLY",
            specific_character_set=None,
        )  # fmt: skip
        made.ContentQualification = "RESEARCH"
        finish(made, header, facts.at)
        return made


def reference(header: Dataset, to: ReportedImage | SentObject) -> Dataset:
    """A source image, or an earlier object of ours, as far as another object names it."""
    named = Dataset()
    named.update(header)
    named.SeriesInstanceUID, named.SOPInstanceUID = to.series_uid, to.sop_instance_uid
    named.SOPClassUID = to.sop_class_uid
    return named


def finish(made: Dataset, header: Dataset, at: datetime) -> None:
    """Give an object the character set of its source, and one moment for every date and time: made again, it must be
    the same object.
    """
    if "SpecificCharacterSet" in header:  # highdicom takes none whose first value is empty
        made.SpecificCharacterSet = header.SpecificCharacterSet
    moment = at.astimezone(UTC)
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(made, f"{name}Date", f"{moment:%Y%m%d}")
        setattr(made, f"{name}Time", f"{moment:%H%M%S}")
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{moment:%Y%m%d%H%M%S}"
    made.TimezoneOffsetFromUTC = "+0000"


def software_version(device: Device, facts: Facts) -> str:
    """Release of the program and digest of the model (LO: 64 characters)."""
    return f"{device.release} {facts.model_digest[:12]}".strip()


def observer(device: Device) -> ObservationContext:
    """This installation as the observing device (TID 1004)."""
    attributes = DeviceObserverIdentifyingAttributes(
        device.uid, MANUFACTURER, MANUFACTURER, MODEL_NAME, device.serial_number
    )
    return ObservationContext(observer_device_context=ObserverContext(_coded(codes.DEVICE), attributes))


def _content(facts: Facts, device: Device) -> MeasurementReport:
    return MeasurementReport(
        observation_context=observer(device),
        procedure_reported=_coded(codes.IMAGING if _is_ineligible(facts) else codes.CHEST_XRAY),
        imaging_measurements=[_group(facts, device)],
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_coded(codes.ENGLISH)),
    )


def _group(facts: Facts, device: Device) -> MeasurementsAndQualitativeEvaluations:
    """The one measurement group (TID 1501)."""
    is_flagged = facts.could_not is None and facts.verdict is Verdict.FLAGGED
    images = [SourceImageForMeasurementGroup(image.sop_class_uid, image.sop_instance_uid) for image in facts.images]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(result_uid(facts.study_uid, 0, "", "tracking"), TRACKING_IDENTIFIER),
        finding_category=_coded(codes.CLINICAL_FINDING),
        finding_type=_coded(codes.PNEUMONIA),
        finding_sites=[FindingSite(_coded(codes.LUNG))],
        algorithm_id=_algorithm(facts, device) if facts.model_digest else None,
        measurements=_measurements(facts) or None,
        qualitative_evaluations=[QualitativeEvaluation(_coded(codes.FINDING), _coded(codes.SUSPECTED))]
        if is_flagged
        else None,
        source_images=images,
    )
    group[0].ContentSequence.append(
        TextContentItem(_coded(codes.COMMENT), comment(facts), relationship_type="CONTAINS")
    )
    return group


def comment(facts: Facts) -> str:
    """What the result means, in words. Never that pneumonia is absent."""
    if facts.could_not is not None:
        return f"could not be screened: {_words(facts.could_not)}; {codes.RESEARCH}"
    if facts.verdict is Verdict.FLAGGED:
        return f"{codes.FLAGGED_COMMENT}; {codes.RESEARCH}"
    if facts.verdict is Verdict.NOT_FLAGGED:
        return f"{codes.NOT_FLAGGED_COMMENT}; {codes.RESEARCH}"
    if _is_ineligible(facts):
        return f"{codes.INELIGIBLE_COMMENT}: {_words(facts.reason)}; {codes.RESEARCH}"
    return f"unscreenable: {_words(facts.reason)}; {codes.RESEARCH}"


def _is_ineligible(facts: Facts) -> bool:
    """Whether the study holds no chest radiograph: reported only where it replaces a result that was sent."""
    return facts.could_not is None and facts.verdict is Verdict.INELIGIBLE


def _measurements(facts: Facts) -> list[Measurement]:
    """Probability of the deciding image and the operating point; none where the result gives no trustworthy number."""
    has_number = facts.could_not is None and facts.verdict in (Verdict.FLAGGED, Verdict.NOT_FLAGGED)
    if not has_number or facts.probability is None:
        return []
    source = None
    if facts.deciding is not None:
        image = facts.images[facts.deciding]
        source = [SourceImageForMeasurement(image.sop_class_uid, image.sop_instance_uid)]
    return [
        Measurement(_coded(codes.PROBABILITY), _number(facts.probability), codes.NO_UNITS, referenced_images=source),
        Measurement(_coded(codes.OPERATING_POINT), _number(facts.threshold), codes.NO_UNITS),
    ]


def _algorithm(facts: Facts, device: Device) -> AlgorithmIdentification:
    """Name, version and parameters of the model (TID 4019)."""
    parameters = [
        f"operating point {facts.threshold:.6f}, {facts.rule}",
        f"population: {facts.population}",
        codes.RESEARCH,
    ]
    return AlgorithmIdentification(facts.model_name, f"{device.release} model {facts.model_digest}", parameters)


def _number(value: float) -> float:
    """A number that fits into a Decimal String (16 characters, PS3.5 6.2)."""
    return round(value, 6)


def _words(code: str) -> str:
    return code.replace("_", " ")


def _coded(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme_designator, code.meaning)
