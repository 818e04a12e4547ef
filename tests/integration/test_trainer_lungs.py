"""`trainer lungs` trains the net that outlines lungs, and measures it on patients that it never saw."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from trainer.cli.main import app
from trainer.recipes.lung_net import lung_fields, lung_net


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two dark ovals on grey as the lungs of 40 persons, and the masks of all but one of them."""
    root = tmp_path_factory.mktemp("lungs")
    for i in range(40):
        name = f"PNEUMONIA/person{i}_virus_{i}" if i % 2 else f"NORMAL/IM-{i:04d}-1"
        image, mask = chest(i)
        for folder, suffix, picture in (("images", ".png", image), ("masks", ".png", mask)):
            path = root / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "images" or i:
                cv2.imwrite(str(path), picture)
    return root / "images", root / "masks"


def chest(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((224, 224), np.uint8)
    for x in (70, 154):
        centre = (x + int(rng.integers(-6, 7)), 110 + int(rng.integers(-8, 9)))
        cv2.ellipse(mask, centre, (30, 64), 0, 0, 360, 255, -1)
    image = np.where(mask > 0, 60, 170) + rng.normal(0, 6, mask.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, as it writes weights
def test_the_net_learns_and_is_measured_on_others(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = folders
    out = tmp_path / "net.weights.h5"
    words = ["lungs", "--data", str(images), "--masks", str(masks), "--out", str(out), "--epochs", "8", "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["trained_on"] <= 39
    assert set(found["dice"]) == {"normal", "virus"}
    net = lung_net()
    net.load_weights(out)
    image, mask = chest(99)
    found_field, drawn = lung_fields(net, image[None])[0], mask > 0
    assert found_field[drawn].mean() > found_field[~drawn].mean() + 20, "the lungs stand out in what it finds"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_name_that_keras_cannot_write_and_masks_of_others_are_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    images, masks = folders
    refused = ((tmp_path / "net.onnx", masks, "weights.h5"), (tmp_path / "n.weights.h5", images.parent, "no mask"))
    for out, folder, words in refused:
        said = CliRunner().invoke(app, ["lungs", "--data", str(images), "--masks", str(folder), "--out", str(out)])
        assert said.exit_code != 0
        assert words in str(said.exception)
    assert not list(tmp_path.iterdir())
