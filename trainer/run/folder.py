"""Read the folder of a run for a report: split, record, log, audit, model. Changes nothing.

Older runs lack some files; the fields of those are empty, and the report says so.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.manifest import Manifest, read_manifest
from trainer.run.out_of_fold import OUT_OF_FOLD
from trainer.run.record import Record, read_record
from trainer.training.warm_start import SPLIT
from worker.errors import BadData

Event = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The contents of the folder of one run."""

    path: Path
    manifest: Manifest
    model: Path
    record: Record | None
    audit: dict[str, Any]
    epochs: list[Event]  #: of the training that led to the model, in order
    warnings: list[str]  #: of the audit and of the run since then


def read_run(folder: Path) -> RunFolder:
    """Read the folder of a finished run; raises BadData naming what is missing."""
    split = folder / SPLIT
    if (folder / OUT_OF_FOLD).is_file():
        raise BadData("is a run over folds: give one of the folders in it, such as fold-1").about(str(folder))
    if not split.is_file():
        raise BadData(f"is not the folder of a run: {SPLIT} is missing").about(str(folder))
    record = read_record(folder)
    audit = _read_audit(folder / "audit.json")
    events = _read_log(folder / "log.jsonl")
    audit_warnings = [str(warning) for warning in audit.get("warnings", [])]
    return RunFolder(
        path=folder,
        manifest=read_manifest(split),
        model=_find_model(folder, record),
        record=record,
        audit=audit,
        epochs=_last_training(events),
        warnings=list(dict.fromkeys(audit_warnings + _warnings(events))),
    )


def _find_model(folder: Path, record: Record | None) -> Path:
    """The model that the record names, else the only one."""
    found = [folder / record.model_file] if record else sorted(folder.glob("*.onnx"))
    if len(found) != 1:
        raise BadData(f"holds {len(found)} model files instead of one").about(str(folder))
    if not found[0].is_file():
        raise BadData("is missing: start the same fit again").about(str(found[0]))
    return found[0]


def _read_audit(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"is not an audit ({error}): run `trainer audit --json` again").about(str(path)) from error
    return found if isinstance(found, dict) else {}


def _read_log(path: Path) -> list[Event]:
    """The events of a log, without incomplete lines, as a power cut leaves them."""
    events: list[Event] = []
    if not path.is_file():
        return events
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def _last_training(events: list[Event]) -> list[Event]:
    """The epochs that led to the model, without NaN. An epoch that runs again replaces itself and all after it."""
    epochs: list[Event] = []
    for event in events:
        number = event.get("epoch")
        if event["event"] != "epoch" or not isinstance(number, int):
            continue
        epochs = [earlier for earlier in epochs if earlier["epoch"] < number]
        epochs.append({name: value for name, value in event.items() if name != "event" and not _is_not_finite(value)})
    return epochs


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _warnings(events: list[Event]) -> list[str]:
    """The warnings since the last audit, which belong to the training that led to the model."""
    audits = [i for i, event in enumerate(events) if event["event"] == "audit"]
    since = events[audits[-1] :] if audits else events
    return [str(event.get("text", "")) for event in since if event["event"] == "warning"]
