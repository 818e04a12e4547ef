"""Time of one study by stage, each measured alone in one process on one core: the roofline."""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from schema.setting_values import InboxMode
from tests.benchmarks.service import make_store
from worker.app import messages
from worker.imaging.image_file import open_image
from worker.imaging.preprocess import apply
from worker.imaging.statistics import describe
from worker.inference import overlay as heatmap
from worker.inference.model import Model, open_model
from worker.intake.ingest import Intake
from worker.intake.read_ahead import TOGETHER
from worker.intake.reader import IntakeRequest, ReadFile
from worker.ledger.clocks import now
from worker.ledger.connect import open_database
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.intake.register import register_all
from worker.ledger.screening import claims, outbox, verdicts
from worker.ledger.screening.results import Claim, ModelUse, Result
from worker.screening.rules import ImageOutcome, decide, eligible
from worker.settings import Settings
from worker.store import OVERLAYS, open_store
from worker.store.fetch import fetch

#: What a worker does because it is another process than the watcher: it reads and checks the file once more.
READ_AGAIN = "read again, CRC"


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


def measure_stages(paths: Sequence[Path], folder: Path, model_path: Path) -> Costs:
    """Each stage once per study, by the worker's own functions in mode `move`, below `folder`; one thread.

    The files are copied first, and are on the disk. Files are booked in groups, and studies claimed and recorded in
    messages, as of a backlog. Not in it: the queue's messages, and the decoder child of compressed files.
    """
    inbox, home = folder / "inbox", folder / "home"
    inbox.mkdir()
    make_store(home)
    for path in paths:
        shutil.copyfile(path, inbox / path.name)
    os.sync()
    settings = Settings(home=home, model=model_path, inbox_mode=InboxMode.MOVE)
    database = open_database(settings)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        intake, costs = Intake(settings, database, open_store(settings)), Costs()
        model = open_model(model_path, "cpu", threads=1)
        model.predict(np.zeros((1, model.card.preprocessing.size, model.card.preprocessing.size, 1), np.uint8))
        files = sorted(inbox.iterdir())
        for start in range(0, len(files), TOGETHER):
            _take_in(files[start : start + TOGETHER], intake, costs)
        _screen(len(files), intake, model, costs)
        return costs
    finally:
        cv2.setNumThreads(threads)
        database.close()


def _take_in(files: Sequence[Path], intake: Intake, costs: Costs) -> None:
    """What a watcher does with a group of files."""
    group = list[ReadFile]()
    for path in files:
        status = path.stat()
        file = Incoming(str(path), status.st_size, status.st_mtime_ns)
        with costs.of("header, SHA-256, CRC, link"):
            request = IntakeRequest(file, path.parent, is_final=False, is_settled=True, is_ours=True)
            group.append(intake.reader.read(request, datetime.now(UTC)))
    receipts = [Receipt(r.request.file, r.header, r.digest, r.crc, is_settled=True) for r in group if r.header]
    with costs.of("ledger"):
        register_all(intake.database, receipts, intake.settings, datetime.now(UTC))
    for read in group:
        with costs.of("removal from the inbox"):
            if read.held is not None:  # as on every local disk of Linux
                read.held.remove()


def _screen(count: int, intake: Intake, model: Model, costs: Costs) -> None:
    """What a worker does with the messages of so many studies."""
    settings, database = intake.settings, intake.database
    use = ModelUse(model.digest, model.card, model.provider)
    with costs.of("ledger"):
        offered = [o for _ in range(0, count, 1000) for o in outbox.offer(database, datetime.now(UTC))]
    for message in messages(offered, settings.message_size):
        with costs.of("ledger"):
            uids = [offer.study_uid for offer in message]
            taken = claims.claim_all(database, uids, settings, now)
        held = [claim for claim in taken if isinstance(claim, Claim)]
        results = [_judge(claim, intake, model, use, costs) for claim in held]
        with costs.of("ledger"):
            ends = verdicts.record_all(database, results, datetime.now(UTC), settings)
        assert [end for end in ends if end is True] == [True] * len(uids), "the roofline's own ledger lost a study"


def _judge(held: Claim, intake: Intake, model: Model, use: ModelUse, costs: Costs) -> Result:
    (received,) = held.received
    with costs.of(READ_AGAIN):
        content = fetch(intake.store, received.digest, received.left_at, received.crc)
    with costs.of("header, pixels"):
        image = open_image(content)
        display = image.display(model.card.preprocessing.pyramid).pixels
    with costs.of("grid"):
        grid, seen = apply(display, model.card.preprocessing)
        statistics = describe(grid)
    with costs.of("inference"):
        prediction = model.predict(grid[None])[0]
    with costs.of("heat map, PNG, store"):
        placement = seen.of(image.instance.columns, image.instance.rows)
        png = heatmap.overlay(display, prediction.heatmap, placement, prediction.probability, 0.5)
        overlay = intake.store.put(OVERLAYS, png)
    outcome = ImageOutcome(image.instance, eligible(image.instance), prediction, statistics=statistics)
    return Result(held, decide([outcome], model.card), [outcome], [overlay], use, 0.0)


def roofline(costs: Costs, count: int, cores: int, *, without: str = "") -> float:
    """Studies a second if the stages, or all but one of them, were packed on the cores without a gap."""
    return cores * count / sum(s for stage, s in costs.wall_s.items() if stage != without)
