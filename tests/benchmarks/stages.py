"""Time of one study by stage, each measured alone in one process on one core: the roofline."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from worker.app import messages
from worker.imaging.preprocess import apply
from worker.imaging.reading import open_image
from worker.inference import overlay as heatmap
from worker.inference.model import open_model
from worker.intake.read_ahead import TOGETHER
from worker.ledger import claims, outbox, verdicts
from worker.ledger.arrivals import Incoming, Receipt
from worker.ledger.connect import open_database
from worker.ledger.register import register_all
from worker.ledger.results import Claim, ModelUse, Result
from worker.screening.rules import ImageOutcome, decide, eligible
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, open_store


@dataclass
class Costs:
    """Seconds spent in each stage, over all studies, in the order in which a study meets them."""

    wall_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time of the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall_s[stage] += time.perf_counter() - wall
        self.cpu_s[stage] += time.process_time() - cpu


def measure_stages(paths: Sequence[Path], home: Path, model_path: Path) -> Costs:
    """Each stage once per study, by the worker's own functions, on the state folder `home`; one thread.

    A study is read and hashed, its header parsed, its pixels decoded and so on *once*: what the worker does twice
    (fetching from the store, parsing anew in another process) is not in the roofline. Files are registered in groups,
    and studies claimed and recorded in messages, as of a backlog.
    """
    settings = Settings(home=home, model=model_path)
    store, database = open_store(settings), open_database(settings)
    model = open_model(model_path, "cpu", threads=1)
    model.predict(np.zeros((1, model.card.preprocessing.size, model.card.preprocessing.size, 1), np.uint8))
    use = ModelUse(model.digest, model.card, model.provider)
    costs, drawn, receipts = Costs(), {}, list[Receipt]()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for path in paths:
            status = path.stat()
            with costs.of("read, hash, store"):
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                store.put(OBJECTS, content, digest)
            with costs.of("header"):
                image = open_image(content)
                instance = image.instance
            with costs.of("decode, display"):
                display = image.display(model.card.preprocessing.pyramid).pixels
            with costs.of("preprocess"):
                grid, seen = apply(display, model.card.preprocessing)
                placement = seen.of(instance.columns, instance.rows)
            with costs.of("inference"):
                prediction = model.predict(grid[None])[0]
            with costs.of("heat map, PNG, store"):
                png = heatmap.overlay(display, prediction.heatmap, placement, prediction.probability, 0.5)
                overlay = store.put(OVERLAYS, png)
            outcome = ImageOutcome(instance, eligible(instance), prediction)
            incoming = Incoming(str(path), status.st_size, status.st_mtime_ns)
            receipts.append(Receipt(incoming, instance, digest, is_settled=True))
            drawn[instance.study_uid] = (outcome, overlay)
        with costs.of("ledger"):
            for start in range(0, len(receipts), TOGETHER):
                register_all(database, receipts[start : start + TOGETHER], settings, datetime.now(UTC))
            offered = [o for _ in range(0, len(paths), 1000) for o in outbox.offer(database, datetime.now(UTC))]
        for message in messages(offered, settings.message_size):
            with costs.of("ledger"):
                uids = [offer.study_uid for offer in message]
                results = []
                for held in claims.claim_all(database, uids, settings, datetime.now(UTC)):
                    assert isinstance(held, Claim), "the roofline's own ledger lost a study"
                    outcome, overlay = drawn[held.study_uid]
                    results.append(Result(held, decide([outcome], model.card), [outcome], [overlay], use, 0.0))
                ends = verdicts.record_all(database, results, datetime.now(UTC), settings)
            assert all(end is True for end in ends), "the roofline's own ledger refused a study"
    finally:
        cv2.setNumThreads(threads)
        database.close()
    return costs


def roofline(costs: Costs, count: int, cores: int) -> float:
    """Studies a second if the stages were packed on the cores without a gap."""
    return cores * count / sum(costs.wall_s.values())
