"""What the modality, the archive and the reader were promised, against what ledger and archive hold at the end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from schema.database import Database
from tests.chaos.archive import Archive
from tests.chaos.crew import Entry
from tests.chaos.modality import Modality
from tests.chaos.reader import Reader

#: Events of an error that nobody expected, each at the boundary of one object, request or thread.
BUGS = ("object_failed", "comparison_failed", "result_not_made", "request_failed", "thread_failed")

#: The status of success as the receiver logs it.
SUCCESS = "0000"

OBJECTS = """
    SELECT instance.sop_instance_uid, COUNT(*) FROM arrival JOIN instance ON instance.id = arrival.instance_id
    WHERE arrival.path LIKE 'dicom:%' AND arrival.state = 'accepted' GROUP BY instance.sop_instance_uid
"""
REPORTED = """
    SELECT study.study_uid, COUNT(*) FROM screening JOIN study ON study.id = screening.study_id
    WHERE screening.shadow_of IS NULL AND screening.verdict IN ('flagged', 'not_flagged', 'unscreenable')
    GROUP BY study.study_uid
"""
DISPATCHES = "SELECT state, COUNT(*) FROM dispatch GROUP BY state"
VERDICTS = "SELECT comment, COUNT(*) FROM review GROUP BY comment"


@dataclass(frozen=True)
class Outside:
    """The sums of those outside."""

    objects_answered: int  #: with success, by SOP Instance UID
    objects_lost: int  #: of these, those that the ledger does not hold as accepted
    objects_doubled: int
    objects_refused: int  #: answers that asked the modality to come again
    reports_due: int  #: one for each result
    reports_lost: int  #: of these, those that are not in the archive
    reports_doubled: int  #: objects in the archive beyond one for each result
    reports_waiting: int  #: that the program still wants to send
    reports_given_up: int  #: or refused for good
    reports_stored: int  #: C-STORE requests that the archive answered with success, also for an object it had
    verdicts_confirmed: int
    verdicts_lost: int
    verdicts_doubled: int  #: also of those that were not confirmed
    page_answers: dict[int, int]  #: by status of HTTP
    page_unanswered: int
    page_faults: list[str]  #: requests that were answered with 500
    bugs: dict[str, int]  #: logged

    @property
    def is_whole(self) -> bool:
        """Whether every promise held."""
        objects = self.objects_lost + self.objects_doubled
        reports = self.reports_lost + self.reports_doubled + self.reports_waiting + self.reports_given_up
        verdicts = self.verdicts_lost + self.verdicts_doubled
        return not (objects or reports or verdicts or self.page_faults or self.bugs)

    @property
    def lines(self) -> list[str]:
        """One sentence each for modality, archive and page."""
        answers = ", ".join(f"{count} with {status}" for status, count in sorted(self.page_answers.items()))
        return [
            f"{self.objects_answered} objects answered with success, {self.objects_lost} lost,"
            f" {self.objects_doubled} doubled ({self.objects_refused} answers asked to come again)",
            f"{self.reports_due} reports due, {self.reports_lost} lost, {self.reports_doubled} doubled,"
            f" {self.reports_waiting} still waiting, {self.reports_given_up} given up"
            f" ({self.reports_stored} times the archive accepted one)",
            f"{self.verdicts_confirmed} verdicts confirmed, {self.verdicts_lost} lost, {self.verdicts_doubled} doubled;"
            f" the page answered {answers}, and {self.page_unanswered} requests not at all",
            *(f"FAULT: {fault} was answered with 500" for fault in self.page_faults),
            *(f"FAULT: {count} times {event}" for event, count in self.bugs.items()),
        ]


def take(database: Database, entries: Sequence[Entry], modality: Modality, archive: Archive, reader: Reader) -> Outside:
    """Compare what was promised with what is there."""
    with database.reading() as connection:
        objects, verdicts = _counted(connection, OBJECTS), _counted(connection, VERDICTS)
        reported = _counted(connection, REPORTED)
        dispatches = _counted(connection, DISPATCHES)
    kept = Counter({str(ds.SOPInstanceUID): str(ds.StudyInstanceUID) for ds in archive.objects}.values())
    logged = Counter(entry.event for entry in entries)
    refused = sum(e.event == "object_answered" and e.fields.get("status") != SUCCESS for e in entries)
    return Outside(
        objects_answered=len(modality.answered),
        objects_lost=len(modality.answered - objects.keys()),
        objects_doubled=_beyond_one(objects),
        objects_refused=refused,
        reports_due=reported.total(),
        reports_lost=(reported - kept).total(),
        reports_doubled=(kept - reported).total(),
        reports_waiting=dispatches["due"],
        reports_given_up=dispatches.total() - dispatches["due"] - dispatches["sent"],
        reports_stored=len(archive.objects),
        verdicts_confirmed=len(reader.confirmed),
        verdicts_lost=len(set(reader.confirmed) - verdicts.keys()),
        verdicts_doubled=_beyond_one(verdicts),
        page_answers=dict(sorted(reader.statuses.items())),
        page_unanswered=reader.unanswered,
        page_faults=reader.faults,
        bugs={event: logged[event] for event in BUGS if logged[event]},
    )


def _counted(connection: Connection, statement: str) -> Counter[str]:
    """The counts of a statement by their key."""
    return Counter({str(key): int(count) for key, count in connection.execute(text(statement))})


def _beyond_one(counts: Counter[str]) -> int:
    return sum(count - 1 for count in counts.values())
