"""Export studies as de-identified DICOM objects. This module chooses the objects, `deidentify` writes each.

Text that is burned into the pixels stays: a person must check each picture before it is passed on.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, bindparam, text

from schema.database import Database
from schema.vocabulary import AuditAction, Reason
from worker.errors import BadData, Rejected, StorageUnavailable
from worker.export.deidentify import deidentify, fault
from worker.imaging.dicom_object import open_object
from worker.imaging.limits import Limits
from worker.imaging.part10 import looks_like_dicom
from worker.ledger import audit
from worker.ledger.clocks import now
from worker.ledger.intake.arrivals import stored_path
from worker.ledger.pseudonyms import load_key, patient_pseudonym, pseudonym
from worker.ledger.transactions import reading
from worker.store import Store
from worker.store.fetch import fetch

IMAGES_OF = text("""
    SELECT study.study_uid, study.patient_id, study.issuer_of_patient_id, study.conflict,
           instance.digest, instance.left_at
    FROM study JOIN series ON series.study_id = study.id JOIN instance ON instance.series_id = series.id
    WHERE study.study_uid IN :study_uids AND NOT instance.superseded
    ORDER BY instance.id
""").bindparams(bindparam("study_uids", expanding=True))


@dataclass
class Exported:
    """Numbers of exported objects and studies, and of objects left out, by reason."""

    objects: int = 0
    studies: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)


def export(
    database: Database, store: Store, study_uids: Sequence[str], out: Path, limits: Limits, by: str = ""
) -> Exported:
    """Write the radiographs of these studies into the new folder `out`, each named by its new UID.

    A patient has the same pseudonym as in `export-labels`, so that both exports can be combined.
    Raises BadData when `out` is not empty, StorageUnavailable when it or the store cannot be used.
    """
    key = load_key(store)
    with reading(database) as connection:
        found = connection.execute(IMAGES_OF, {"study_uids": list(study_uids)}).all()
    exported = Exported()
    try:
        if out.exists() and any(out.iterdir()):
            raise BadData("is not empty: give a new folder").about(str(out))
        out.mkdir(parents=True, exist_ok=True)
        audit.note(
            database, AuditAction.DEIDENTIFIED, by, now(), dict.fromkeys(study_uids), subject=stored_path(str(out))
        )
        for row in found:
            why = _write(row, store, out, key, limits)
            if why is not None:
                exported.left_out[why] += 1
                continue
            exported.objects += 1
            exported.studies.add(row.study_uid)
    except OSError as error:
        raise StorageUnavailable(f"cannot be written ({error.strerror})").about(str(out)) from error
    return exported


def _write(row: Row[Any], store: Store, out: Path, key: bytes, limits: Limits) -> str | None:
    """Write one object; returns the reason if it is left out."""
    if row.conflict == Reason.TWO_PATIENTS:
        return "two patients in one study"
    try:
        content = fetch(store, row.digest, row.left_at)
        if not looks_like_dicom(content):
            return "no DICOM object (`worker export-labels` writes these)"
        opened = open_object(content, limits)
        why = fault(opened)
        if why is not None:
            return why
        patient = patient_pseudonym(key, row.issuer_of_patient_id, row.patient_id, row.study_uid)
        new_uid, file = deidentify(opened, key, patient)
    except Rejected as error:
        return error.code
    # two objects of one UID are a conflict, and both are exported
    target = out / f"{new_uid}.dcm"
    if target.exists():
        target = out / f"{new_uid}-{pseudonym(key, 'object', row.digest)}.dcm"
    target.write_bytes(file)
    return None
