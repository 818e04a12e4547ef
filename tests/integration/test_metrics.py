"""The metrics report what database and broker hold, name no patient, and are limited in number."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from schema.vocabulary import Priority
from tests.acceptance.installation import Installation
from tests.ledger import STUDY, Ledger, claim_one
from worker.app import Depths
from worker.errors import BrokerUnavailable
from worker.ledger.database_clock import database_now
from worker.ledger.screening import claims
from worker.monitoring.exporter import open_server
from worker.monitoring.health import check_readiness
from worker.monitoring.metrics import Metrics
from worker.screening.timings import Stage, Times
from worker.settings import Settings
from worker.store import OBJECTS

A, B, C, D = (f"{STUDY}.{n}" for n in (1, 2, 3, 4))
NAME = "PLANTEDNAME"


def idle() -> Depths:
    return Depths({"stat": 0, "routine": 3, "nightly": 0}, 1, 2)


def away() -> Depths:
    raise BrokerUnavailable("cannot be asked")


def in_force(desk: Ledger, **changes: Any) -> Settings:
    """Settings under which every request reads the database again."""
    return attrs.evolve(desk.settings, database=desk.database.url, metrics_interval_s=1e-9, **changes)


@contextmanager
def registry(metrics: Metrics) -> Iterator[CollectorRegistry]:
    ours = CollectorRegistry(auto_describe=False)
    ours.register(metrics)
    with closing(metrics):
        yield ours


def samples(ours: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a name by their labels' values."""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in ours.collect()
        for sample in metric.samples
        if sample.name == name
    }


def test_counts_are_those_of_the_ledger(desk: Ledger) -> None:
    scanner: dict[str, Any] = {"manufacturer": "ACME Röntgen", "station_name": "ROOM 1"}
    desk.receive(A, content=A, **scanner)
    desk.screen(A, 0.9)
    desk.receive(B, content=B, **scanner)
    desk.screen(B, 0.2)
    desk.receive(C, content=C, unreadable="truncated", transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    desk.screen(C)
    desk.clock.forward(30)
    desk.receive(D, content=D, priority=Priority.STAT)
    desk.offer()
    held = claim_one(desk.database, D, desk.settings, database_now(desk.database, desk.clock))
    assert held is not None
    desk.clock.forward(12)
    with registry(Metrics(in_force(desk), desk.clock, idle)) as ours:
        results = samples(ours, "screening_results_total")
        model, provider = "a" * 12, "CPUExecutionProvider"
        own = ("ACME R_ntgen", "ROOM 1")
        assert results == {
            (model, provider, "active", "flagged", *own): 1,
            (model, provider, "active", "not_flagged", *own): 1,
            (model, provider, "active", "unscreenable", "none", "none"): 1,
        }
        buckets = samples(ours, "screening_probability_bucket")
        assert [buckets[model, "active", *own, bound] for bound in ("0.15", "0.2", "0.85", "0.9", "+Inf")] == [
            0, 1, 1, 2, 2,
        ]  # fmt: skip
        assert samples(ours, "screening_probability_count")[model, "active", "none", "none"] == 0
        assert samples(ours, "screening_unreadable_images_total") == {("truncated", "JPEG2000Lossless"): 1}
        files = samples(ours, "screening_files")
        assert (files[("accepted",)], files[("quarantined",)], files[("waiting",)]) == (3, 1, 0)
        assert samples(ours, "screening_quarantined_files") == {("truncated",): 1}
        studies = samples(ours, "screening_studies")
        assert (studies["screened", "flagged"], studies["screening", "none"], studies["failed", "none"]) == (1, 1, 0)
        assert samples(ours, "screening_unread_studies")[("stat",)] == 1
        assert samples(ours, "screening_oldest_unscreened_seconds") == {(): 12}
        assert samples(ours, "screening_claims") == {(): 1}
        assert samples(ours, "screening_queue_messages")[("routine",)] == 3
        assert samples(ours, "screening_wait_seconds_count") == {("active",): 3}
        long_ago = database_now(desk.database, desk.clock) - timedelta(hours=1)
        claims.heartbeat(desk.database, [held.token], desk.settings, long_ago)
        assert samples(ours, "screening_claims") == {(): 0}, "a dead worker's claim is nobody's"


def test_stages_are_histograms_of_what_results_keep(desk: Ledger) -> None:
    for number, predict_s in enumerate((0.004, 0.3, 100.0)):
        desk.receive(f"{STUDY}.{number}", content=str(number))
        desk.times = Times(read_s=0.001, predict_s=predict_s, batch_size=number + 1)
        desk.screen(f"{STUDY}.{number}", 0.7)
    desk.receive(D, content=D)
    desk.times = Times()  # as of a worker of before
    desk.screen(D, 0.7)
    with registry(Metrics(in_force(desk), desk.clock, idle)) as ours:
        own = ("active", "CPUExecutionProvider")
        counts = samples(ours, "screening_stage_seconds_count")
        assert [counts[stage, *own] for stage in Stage] == [3, 0, 3, 0]
        buckets = samples(ours, "screening_stage_seconds_bucket")
        assert [buckets["predict", *own, bound] for bound in ("0.002", "0.005", "0.5", "60.0", "+Inf")] == [
            0, 1, 2, 2, 3,
        ]  # fmt: skip
        assert samples(ours, "screening_stage_seconds_sum")["predict", *own] == pytest.approx(100.304)
        batches = samples(ours, "screening_batch_images_bucket")
        assert [batches[*own, bound] for bound in ("1.0", "2.0", "4.0", "+Inf")] == [1, 2, 3, 3]


def test_days_that_are_over_are_added_up_once_and_the_sums_stay_true(desk: Ledger) -> None:
    metrics = Metrics(in_force(desk), desk.clock, idle)
    with registry(metrics) as ours:
        for number in range(4):
            desk.receive(f"{STUDY}.{number}", content=str(number))
            desk.screen(f"{STUDY}.{number}", 0.7)
            assert sum(samples(ours, "screening_results_total").values()) == number + 1
            desk.clock.forward(hours=36)
        assert [numbers[0] for numbers in metrics.results.kept.values()] == [2]
        desk.clock.forward(hours=-5 * 24)
        assert sum(samples(ours, "screening_results_total").values()) == 4, "a clock that was ahead hid results"


@pytest.mark.parametrize("kind", ["sqlite"])
def test_scanners_beyond_the_bound_are_others_and_no_label_names_a_patient(desk: Ledger) -> None:
    for number in range(5):
        uid = f"{STUDY}.{number}"
        desk.receive(
            uid, content=uid, path=f"/inbox/{NAME}{number}.dcm", station_name=f"ROOM {number}",
            patient_id=NAME, accession_number=NAME, transfer_syntax_uid=f"1.2.3.{number}", unreadable="truncated",
        )  # fmt: skip
        desk.screen(uid)
    with registry(Metrics(in_force(desk, metrics_scanners=2), desk.clock, idle)) as ours:
        stations = {labels[-1] for labels in samples(ours, "screening_results_total")}
        assert stations == {"ROOM 0", "ROOM 1", "other"}
        assert samples(ours, "screening_unreadable_images_total") == {("truncated", "other"): 5}
        told = str([metric.samples for metric in ours.collect()])
        assert NAME not in told
        assert STUDY not in told


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_read_says_so_and_hides_nothing_else(desk: Ledger) -> None:
    with registry(Metrics(in_force(desk), desk.clock, away)) as ours:
        assert samples(ours, "screening_up") == {("database",): 1, ("broker",): 0, ("store",): 1}
        assert samples(ours, "screening_queue_messages") == {}
    nowhere = attrs.evolve(desk.settings, database="postgresql://nobody@127.0.0.1:1/none")
    with registry(Metrics(nowhere, desk.clock, idle)) as ours:
        assert samples(ours, "screening_up") == {("database",): 0, ("broker",): 1, ("store",): 1}


@contextmanager
def served(settings: Settings) -> Iterator[int]:
    """A server on a free port; its port."""
    with open_server(attrs.evolve(settings, metrics_port=0)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_port)
        server.shutdown()
        thread.join()


def get(port: int, path: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite"])
def test_health_is_that_of_the_work(desk: Ledger) -> None:
    desk.receive()  # long ago, by the clock of the server
    with served(in_force(desk, alarm_after_s=60.0)) as port:
        answer, body = get(port, "/healthz")
        assert answer.status == 503
        assert "SCREENING_ALARM_AFTER_S" in json.loads(body)[0]["message"]
        desk.screen()
        assert get(port, "/healthz")[0].status == 200
        answer, body = get(port, "/readyz")
        assert {finding["what"] for finding in json.loads(body)} == {"database", "broker", "disk"}
        assert answer.status == 200
        assert get(port, "/worklist")[0].status == 404
        answer, body = get(port, "/metrics")
        families = {family.name for family in text_string_to_metric_families(body.decode())}
        assert {"screening_up", "screening_studies", "screening_results"} <= families
    desk.store.put(OBJECTS, bytes(2**20))
    full = in_force(desk, store_quota_mib=1)
    with registry(Metrics(full, desk.clock, idle)) as ours:
        held, quota = samples(ours, "screening_store_held_bytes"), samples(ours, "screening_store_quota_bytes")
        assert held == quota == {(): 2**20}
    disk = next(finding for finding in check_readiness(full) if finding.what == "disk")
    assert (disk.is_well, "SCREENING_STORE_QUOTA_MIB" in disk.message) == (False, True)
    roomy = check_readiness(in_force(desk, store_quota_mib=8))
    assert [f.message.partition("; ")[2] for f in roomy if f.is_well][-1] == "1 of the quota's 8 MiB are used"
    with served(in_force(desk, min_free_mib=2**40)) as port:
        answer, body = get(port, "/readyz")
        assert answer.status == 503
        assert [finding["what"] for finding in json.loads(body) if not finding["is_well"]] == ["disk"]


@pytest.mark.slow
def test_the_verb_prints_them_where_nothing_was_screened_yet(tmp_path: Path) -> None:
    told = Installation(tmp_path / "home").run("metrics", "--once")
    assert re.search(r'^screening_up\{what="database"\} 0\.0$', told, re.MULTILINE)
    assert not (tmp_path / "home" / "screening.sqlite").exists(), "looking made a database"
