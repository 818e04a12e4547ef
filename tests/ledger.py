"""A ledger for tests: studies are received, offered, claimed and recorded, without files or pixels."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import Priority
from worker.imaging.instance import Container, Instance
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import ModelCard, OperatingPoint, Population
from worker.inference.estimate import Estimate
from worker.inference.prediction import Prediction
from worker.ledger.intake import register
from worker.ledger.intake.arrivals import Incoming, Receipt, Registration
from worker.ledger.screening import claims, outbox, verdicts
from worker.ledger.screening.results import Claim, ModelUse, Result
from worker.screening.rules import ImageOutcome, decide, eligible
from worker.screening.timings import Times
from worker.settings import Settings
from worker.store.folder import FolderStore
from worker.worklist.unread_list import WorklistEntry, entries

STUDY = "1.2.826.0.1.3680043.10.7"


@dataclass
class Clock:
    """A clock that the test sets."""

    now: datetime = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float = 0.0, hours: float = 0.0) -> datetime:
        """Let time pass."""
        self.now += timedelta(seconds=seconds, hours=hours)
        return self.now


def card(**changes: Any) -> ModelCard:
    """A card whose threshold is 0.5 and whose population is everybody, unless `changes` say otherwise."""
    half = Estimate(0.5, 0.4, 0.6, 100)
    threshold = changes.pop("threshold", 0.5)
    plain = ModelCard(
        name="even",
        recipe="test",
        preprocessing=Preprocessing(size=32),
        operating_point=OperatingPoint(threshold, "fixed", half, half, "0" * 64),
        temperature=1.0,
        heat_scale=1.0,
        heat_method="Grad-CAM",
        population=Population("everybody"),
        familiarity_limit=None,
        metrics={"validation_auc": half},
        data_digest="1" * 64,
        versions={"numpy": np.__version__},
        created_at="2026-01-01T00:00:00+00:00",
    )
    return replace(plain, **changes)


def image(study_uid: str = STUDY, sop_instance_uid: str = f"{STUDY}.1.1", **elements: Any) -> Instance:
    """The header of a frontal chest radiograph, unless `elements` say otherwise."""
    plain = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "DX",
        "body_part": "CHEST",
        "view": "PA",
        "patient_id": "P-1",
    }
    series_uid = elements.pop("series_uid", f"{study_uid}.1"[:64])
    return Instance(Container.DICOM, study_uid, series_uid, sop_instance_uid, 100, 80, **plain | elements)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run without the privileges of root, so that file permissions apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def digest(content: str) -> str:
    """The digest of a file with this content."""
    return hashlib.sha256(content.encode()).hexdigest()


def refuse_row(database: Database, table: str, column: str, value: int) -> None:
    """Let the database refuse new rows with this value from now on."""
    with database.writing() as session:
        if database.engine.dialect.name == "sqlite":
            body = f"BEFORE INSERT ON {table} WHEN NEW.{column} = {value} BEGIN SELECT RAISE(ABORT, 'refused'); END"
            session.execute(text(f"CREATE TRIGGER refuse {body}"))
        else:
            session.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT refuse CHECK ({column} <> {value})"))


def claim_one(database: Database, study_uid: str, settings: Settings, now: datetime) -> Claim | None:
    """Claim a study; None where it is not available, and the database's error is raised."""
    (taken,) = claims.claim_all(database, [study_uid], settings, lambda: now)
    if isinstance(taken, Exception):
        raise taken
    return taken


def record_one(database: Database, result: Result, now: datetime, settings: Settings | None = None) -> bool:
    """Record a result: whether its claim still held; the database's error is raised."""
    (end,) = verdicts.record_all(database, [result], now, settings)
    if isinstance(end, Exception):
        raise end
    return end


@dataclass
class Ledger:
    """A ledger with settings, store, clock and a model, and the steps of a study."""

    database: Database
    settings: Settings
    store: FolderStore
    clock: Clock
    model: ModelUse = field(default_factory=lambda: ModelUse("a" * 64, card(), "CPUExecutionProvider"))
    times: Times = field(default_factory=Times)

    def receive(
        self, study_uid: str = STUDY, sop_instance_uid: str | None = None, content: str = "one", *,
        path: str | None = None, priority: Priority = Priority.ROUTINE, same_pixels_as: str | None = None,
        unreadable: str | None = None, is_settled: bool = True, **elements: Any,
    ) -> Registration:  # fmt: skip
        """Register a file with the digest of `content`; no store has its bytes."""
        header = image(study_uid, sop_instance_uid or f"{study_uid}.1.1"[:64], **elements)
        file = Incoming(path or f"/inbox/{content}.dcm", len(content), 1, priority)
        receipt = Receipt(
            file, header, digest(content), unreadable=unreadable, message="it ends early" if unreadable else "",
            same_pixels_as=frozenset() if same_pixels_as is None else frozenset({digest(same_pixels_as)}),
            left_at=file.path, is_settled=is_settled,
        )  # fmt: skip
        return register.register(self.database, receipt, self.settings, self.clock())

    def offer(self) -> list[str]:
        """Offer the settled studies; returns the UIDs."""
        return [offer.study_uid for offer in outbox.offer(self.database, self.clock())]

    def claim(self, study_uid: str = STUDY) -> Claim:
        """Offer and claim a study, which must be available."""
        self.offer()
        held = claim_one(self.database, study_uid, self.settings, self.clock())
        assert held is not None, f"{study_uid} cannot be claimed"
        return held

    def record(self, held: Claim, *probabilities: float, headers: Sequence[Instance] = ()) -> bool:
        """Record a claimed study with one probability for each of its images (the last one repeats)."""
        outcomes = []
        for i, received in enumerate(held.received):
            header = headers[i] if i < len(headers) else image(held.study_uid)
            eligibility = eligible(header)
            if received.unreadable or eligibility.exclusion:
                outcomes.append(ImageOutcome(header, eligibility, unreadable=received.unreadable))
                continue
            probability = probabilities[min(i, len(probabilities) - 1)]
            prediction = Prediction(probability, np.full((2, 3), 0.5, np.float32), 1.5)
            outcomes.append(ImageOutcome(header, eligibility, prediction))
        overlays = [digest(f"overlay {i}") if o.prediction else None for i, o in enumerate(outcomes)]
        judged = decide(outcomes, self.model.card)
        worked_s = (self.clock() - held.claimed_at).total_seconds()
        result = Result(held, judged, outcomes, overlays, self.model, worked_s, self.times)
        return record_one(self.database, result, self.clock(), self.settings)

    def screen(self, study_uid: str = STUDY, *probabilities: float, headers: Sequence[Instance] = ()) -> Claim:
        """Offer, claim and record a study; returns the claim."""
        held = self.claim(study_uid)
        assert self.record(held, *(probabilities or (0.1,)), headers=headers)
        return held

    def refuse(self, study_uid: str) -> None:
        """Let the database refuse any verdict on a study from now on."""
        refuse_row(self.database, "screening", "study_id", self.study(study_uid).id)

    def study(self, study_uid: str = STUDY) -> Any:
        """The row of a study."""
        with self.database.reading() as connection:
            return connection.execute(text("SELECT * FROM study WHERE study_uid = :uid"), {"uid": study_uid}).one()

    def count(self, table: str) -> int:
        """The number of rows of a table."""
        with self.database.reading() as connection:
            return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())

    def worklist(self) -> list[WorklistEntry]:
        """The entries of the worklist."""
        return entries(self.database, self.store)

    def entry(self, study_uid: str = STUDY) -> WorklistEntry:
        """One study's row of the worklist."""
        return next(entry for entry in self.worklist() if entry.study_uid == study_uid)
