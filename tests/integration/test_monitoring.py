"""Alert rules and dashboard use metrics that the program has, and no others."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy import dashboard
from schema.vocabulary import ModelAction, Stability
from tests.ledger import STUDY, Ledger
from worker.app import Depths
from worker.ledger.operations import batch_runs, drift, promotions
from worker.ledger.operations.drift import Cause, Judgement
from worker.monitoring.metrics import Metrics

RULES = Path("deploy/monitoring/rules.yaml")

#: A metric in PromQL: ours all begin alike. Recorded series have colons.
METRIC = re.compile(r"\bscreening[_:][a-z_:]+")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def given(desk: Ledger) -> dict[str, set[str]]:
    """Every sample the program gives once everything has happened, with its labels."""
    desk.receive()
    desk.screen(STUDY, 0.9)
    desk.receive(f"{STUDY}.2", content="2", unreadable="truncated")
    desk.screen(f"{STUDY}.2")
    promotions.decide(desk.database, ModelAction.INSTALLED, desk.model, "test", desk.clock(), lambda _: None)
    cause = Cause(desk.model.digest, "ACME", "ROOM 1", "PA", "display_mean")
    drift.record(desk.database, [Judgement(cause, 100, 0.3, None, 0.25, Stability.LEFT_LIMITS)], desk.clock())
    metrics = Metrics(
        attrs.evolve(desk.settings, database=desk.database.url, store_quota_mib=1),
        desk.clock,
        lambda: Depths({"stat": 0}, 0, 1),
    )
    with batch_runs.recorded(desk.database, desk.clock(), desk.clock):
        pass
    ours = CollectorRegistry(auto_describe=False)
    ours.register(metrics)
    found: dict[str, set[str]] = {}
    for family in ours.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    metrics.close()
    return found


@pytest.mark.parametrize("kind", ["sqlite"])
def test_every_metric_named_there_is_one_that_the_program_gives(desk: Ledger) -> None:
    known = given(desk)
    asked = [rule["expr"] for rule in rules()]
    asked += [query for panel in dashboard.PANELS for query in panel.queries]
    for expression in asked:
        assert set(METRIC.findall(expression)) <= {*known, *recorded()}, expression
        for name, matchers in re.findall(r"(screening_[a-z_]+)\{(.*?)\}", expression):
            assert set(re.findall(r"(\w+)[!=]", matchers)) <= known[name], expression
    told = set(METRIC.findall(" ".join(asked)))
    buckets = {name for name in known if name.endswith(("_bucket", "_count", "_sum"))}
    assert known.keys() - buckets - told <= {
        "screening_last_result_timestamp_seconds", "screening_model_threshold", "screening_metrics_read_seconds",
    }, "measured, and shown nowhere"  # fmt: skip


def test_no_two_panels_of_the_dashboard_lie_on_one_place() -> None:
    panels = json.loads(dashboard.FILE.read_text(encoding="utf-8"))["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_every_alert_says_how_urgent_it_is_and_the_runbook_what_to_do() -> None:
    runbook = Path("deploy/RUNBOOK.md").read_text(encoding="utf-8")
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert f"`{rule['alert']}`" in runbook


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: prometheus)")
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    for what in (["check", "rules", str(RULES)], ["test", "rules", str(RULES.with_name("rules_test.yaml"))]):
        done = subprocess.run(["promtool", *what], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_job_of_an_alert_is_one_that_prometheus_reads() -> None:
    configuration = RULES.with_name("prometheus.yaml").read_text(encoding="utf-8")
    jobs = set(re.findall(r"job_name: (\S+)", configuration))  # also those that a site must uncomment
    asked = {job for rule in rules() for job in re.findall(r'job="(.*?)"', rule["expr"])}
    assert "chest-screening-receiver" in asked <= jobs


def test_every_alert_about_sender_and_receiver_is_tried_with_numbers() -> None:
    tried = yaml.safe_load(RULES.with_name("rules_test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {c["alertname"] for test in tried for c in test["alert_rule_test"] if c["exp_alerts"]}
    assert {"ReceiverAway", "ResultsNotSent", "ResultsNeedAPerson"} <= fired
