"""Writes the Grafana dashboard from a table of panels:  python -m deploy.dashboard

`make check` compares the file; a test holds every metric in it against the program's own output.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "monitoring" / "dashboard.json"

#: Grafana's grid is 24 wide; two panels a row.
WIDTH, HEIGHT, A_ROW = 12, 8, 2

#: The data source that provisioning names so.
SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True)
class Panel:
    """One picture: its queries with the words of their legends."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"


def _quantile(of: str, share: float) -> str:
    return f'histogram_quantile({share}, sum by (le) (rate(screening_{of}_bucket{{role="active"}}[15m])))'


PANELS = (
    Panel("Oldest study without a result", "s", {
        "screening_oldest_unscreened_seconds": "waits", "screening_alarm_after_seconds": "alarm"}),
    Panel("Can be read", "none", {"screening_up": "{{what}}"}, "stat"),
    Panel("Studies on the worklist", "none", {"screening_unread_studies": "{{band}}"}),
    Panel("Studies by state", "none", {"sum by (state) (screening_studies)": "{{state}}"}),
    Panel("Queues", "none", {
        "screening_queue_messages": "{{queue}}", "screening_unacknowledged_messages": "taken"}),
    Panel("Workers", "none", {"screening_consumers": "ask for work", "screening_claims": "studies in work"}),
    Panel("From arrival to result", "s", {
        _quantile("wait_seconds", 0.5): "half", _quantile("wait_seconds", 0.95): "95 of 100"}),
    Panel("From claim to result", "s", {
        _quantile("work_seconds", 0.5): "half", _quantile("work_seconds", 0.95): "95 of 100"}),
    Panel("Stages of a study's work, 95 of 100", "s", {
        "histogram_quantile(0.95, sum by (le, stage) "
        '(rate(screening_stage_seconds_bucket{role="active"}[15m])))': "{{stage}}"}),
    Panel("Images in a batch, mean", "none", {
        "sum by (provider) (rate(screening_batch_images_sum[15m])) / "
        "sum by (provider) (rate(screening_batch_images_count[15m]))": "{{provider}}"}),
    Panel("Results an hour", "none", {
        'sum by (verdict) (increase(screening_results_total{role="active"}[1h]))': "{{verdict}}"}),
    Panel("Results by provider and model, an hour", "none", {
        "sum by (model, provider, role) (increase(screening_results_total[1h]))": "{{role}} {{model}} {{provider}}"}),
    Panel("Flag rate of a day, by scanner", "percentunit", {
        "screening:flag_rate:day": "{{manufacturer}} {{station}}",
        "screening:flag_rate:usual": "usual {{manufacturer}} {{station}}"}),
    Panel("Mean probability of a day, by scanner", "percentunit", {
        'increase(screening_probability_sum{role="active"}[1d]) / '
        'increase(screening_probability_count{role="active"}[1d])': "{{manufacturer}} {{station}}"}),
    Panel("Probabilities of a day", "none", {
        'sum by (le) (increase(screening_probability_bucket{role="active"}[1d]))': "{{le}}"}, "bargauge"),
    Panel("PSI beyond chance against the model's reference", "none", {
        'screening_drift{measure!="flag_rate"}': "{{measure}} {{manufacturer}} {{station}} {{view}}"}),
    Panel("Drift: 1 watch, 2 left its limits", "none", {
        "screening_drift_status > 0": "{{measure}} {{manufacturer}} {{station}} {{view}}"}, "stat"),
    Panel("Files that cannot be read, by code", "none", {"screening_quarantined_files": "{{code}}"}),
    Panel("Unreadable images of a day", "none", {
        "increase(screening_unreadable_images_total[1d])": "{{code}} {{transfer_syntax}}"}),
    Panel("Room in the store", "bytes", {
        "screening_store_free_bytes": "free", "screening_min_free_bytes": "intake stops",
        "screening_store_held_bytes": "held", "screening_store_quota_bytes": "quota"}),
    Panel("Files by where they ended", "none", {"screening_files": "{{state}}"}),
    Panel("Models in force", "none", {
        "screening_model_info": "{{role}} {{name}} {{model}}", "screening_model_refused": "refused {{model}}"}, "stat"),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    return {
        "uid": "chest-screening",
        "title": "Chest screening (research use only)",
        "tags": ["chest-screening"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "panels": [_drawn(number, panel) for number, panel in enumerate(PANELS)],
    }


def written() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _drawn(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, A_ROW)
    targets: list[dict[str, Any]] = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(panel.queries.items())
    ]
    for target in targets if panel.kind == "bargauge" else ():
        target |= {"format": "heatmap", "instant": True}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
