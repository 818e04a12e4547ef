"""One study for people: what was found, how sure that is, who has read it, and where its files and pictures lie."""

from collections.abc import Iterable
from typing import Any

from schema.vocabulary import Verdict
from worker.cli.tables import console, printable
from worker.cli.worklist_table import REMARKS, UNLIKE, date, is_unlike
from worker.screening.ages import in_short
from worker.screening.remarks import remarks

#: Columns of a study that say what is wrong with it, and their words.
FAULTS = {"conflict": "conflict", "failure_code": "failed", "failure_detail": "traceback"}


def print_study(kept: dict[str, Any], *, shows_identifiers: bool = True) -> None:
    """Everything that helps somebody who reads the study. `kept`: as `worker show --json` prints it."""
    _line(_heading(kept, shows_identifiers), bold=True)
    for line in (*_verdict(kept), *_reviews(kept["reviews"]), *_state(kept)):
        _line(line)
    for number, image in enumerate(kept["images"], start=1):
        _line(f"image {number} of {len(kept['images'])}: {_image(image)}")
        for name, value in (("heat map", image.get("heatmap")), ("notes", ", ".join(image.get("notes") or ()))):
            if value:
                _line(f"  {name}: {value}")
    for file in kept["files"]:
        why = ": ".join(filter(None, (file.get("code"), file.get("message"))))
        _line(f"file {file['path']} ({file.get('state', 'known')}{f', {why}' if why else ''})")
    _line(f"Study Instance UID {kept['study_uid']}; everything kept: `worker show --json`")


def sentence(screening: dict[str, Any]) -> str:
    """How sure a verdict is, in one sentence."""
    if screening.get("probability") is None:
        return "no probability"
    model = screening.get("model") or {}
    measured = model.get("sensitivity")
    known = "" if measured is None else (
        f", sensitivity {measured['value']:.3f} on {measured['n']} pneumonias that chose its threshold"
    )  # fmt: skip
    return (
        f"probability {_short(screening['probability'])}, flagged from {screening['threshold']:.2f} on"
        f" (model {model.get('name', '')} {screening['model_digest'][:12]}{known})"
    )


def _heading(kept: dict[str, Any], shows_identifiers: bool) -> str:
    if not shows_identifiers:
        return f"Study {kept['study_uid']}"
    ages = [image["age_years"] for image in kept["images"] if image.get("age_years") is not None]
    known = {
        "patient": kept.get("patient_id"),
        "": in_short(max(ages, default=None)),
        "study of": date(kept.get("study_date")),
        "accession number": kept.get("accession_number"),
    }
    words = [f"{name} {value}".strip() for name, value in known.items() if value]
    return ", ".join(words) or f"Study {kept['study_uid']}"


def _verdict(kept: dict[str, Any]) -> Iterable[str]:
    shown = [s for s in kept["screenings"] if s["id"] == kept.get("current_screening_id")]
    for screening in shown:
        detail = screening["detail"]
        yield f"{_words(screening['verdict'])}: {', '.join([_words(screening['reason']), *_because(screening)])}"
        yield sentence(screening)
        if not is_unlike(detail) and screening.get("probability") is not None:
            has_limit = (screening.get("model") or {}).get("familiarity_limit") is not None
            judged = "like the images this model was made from" if has_limit else "not judged, the model has no limit"
            yield f"familiarity: {judged}"
    if not shown:
        yield "no result yet"
    if len(kept["screenings"]) > len(shown) and shown:
        yield f"{len(kept['screenings']) - len(shown)} other results, of earlier images or other models: --json"


def _because(screening: dict[str, Any]) -> Iterable[str]:
    """What follows the reason of a verdict."""
    detail = screening["detail"]
    if screening["verdict"] == Verdict.FLAGGED:
        yield from (f"{REMARKS[reason]} ({text})" for reason, text in remarks(detail))
    elif is_unlike(detail):
        yield f"{UNLIKE} ({detail})"
    elif detail:
        yield detail


def _reviews(reviews: list[dict[str, Any]]) -> Iterable[str]:
    if not reviews:
        yield "nobody has read it"
    outcomes = {review["outcome"] for review in reviews if not review.get("withdrawn_because")}
    for review in reviews:
        comment = f' "{review["comment"]}"' if review.get("comment") else ""
        line = f"read: {review['outcome'].replace('_', ' ')}, by {review['reader']}, {_moment(review['reviewed_at'])}"
        if review.get("withdrawn_because"):
            line += f"; WITHDRAWN by {review['withdrawn_by']}: {review['withdrawn_because']}"
        yield line + comment
    if len(outcomes) > 1:
        yield "the readers CONTRADICT each other; the newest verdict counts"


def _state(kept: dict[str, Any]) -> Iterable[str]:
    place = "read, and off the list" if kept.get("read_at") else f"on the list: {_words(kept.get('reason'))}"
    yield (
        f"{place}; {_words(kept.get('state'))}, priority {_words(kept.get('priority'))},"
        f" received {_moment(kept.get('received_at'))}"
    )
    for name, words in FAULTS.items():
        if kept.get(name):
            yield f"{words}: {kept[name] if name == 'failure_detail' else _words(kept[name])}"
    for given in kept["priorities"]:
        yield f"priority {given['priority']} by {given['given_by']}, {_moment(given['given_at'])}"


def _image(image: dict[str, Any]) -> str:
    what = " ".join(filter(None, (image.get("modality"), image.get("body_part"), image.get("view"))))
    size = f"{image.get('columns')} x {image.get('rows')}"
    fault = image.get("exclusion") or image.get("unreadable_now") or image.get("unreadable")
    if image.get("probability") is not None:
        result = f"probability {_short(image['probability'])}"
    elif fault:
        result = _words(fault)
    else:
        result = "not screened"
    return ", ".join(filter(None, (what, size, result)))


def _short(probability: float) -> str:
    """A probability in two digits; in three where two would round it to 0 or 1."""
    return f"{probability:.2f}" if 0.005 <= probability < 0.995 else f"{probability:.3f}"


def _words(value: Any) -> str:
    return str(value or "unknown").replace("_", " ")


def _moment(value: Any) -> str:
    return f"{str(value)[:16].replace('T', ' ')} UTC" if value else "at an unknown time"


def _line(text: str, *, bold: bool = False) -> None:
    """Print a line without folding it, so that paths and UIDs can be copied. Only a traceback keeps its line breaks."""
    breaks = text.splitlines() if text.startswith(FAULTS["failure_detail"]) else [text]
    console.print("\n".join(map(printable, breaks)), style="bold" if bold else None, soft_wrap=True)
