"""An inbox, and one toy run for all tests of the trainer. Keras is loaded by the tests that ask for it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.ledger import Ledger
from tests.watched_inbox import WatchedInbox


@pytest.fixture
def watched(desk: Ledger, tmp_path: Path) -> WatchedInbox:
    """An inbox, its watcher, and the messages that were published."""
    return WatchedInbox(desk, tmp_path / "inbox")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 PNGs of 40 x 48 px; pneumonia has a bright patch in the middle. Named as Kermany's files are."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(90):
        sick = i % 2
        image = rng.normal(70, 12, (48, 40))
        if sick:
            image[16:32, 12:28] += 120
        name = f"PNEUMONIA/person{i}_{('virus', 'bacteria')[i % 3 > 0]}_{i}.png" if sick else f"NORMAL/IM-{i:04d}-1.png"
        (root / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / name), np.clip(image, 0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one uninterrupted fit."""
    from tests.toy_network import fit_options
    from trainer.progress import reporting
    from trainer.run.run import run

    out = tmp_path_factory.mktemp("run")
    with (out / "said").open("w") as said, reporting(out / "log.jsonl", said) as report:
        run(fit_options(images, out), report)
    return out
