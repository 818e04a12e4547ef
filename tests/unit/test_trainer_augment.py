"""Training views: same shape, seeded, and the style changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data.augment import (
    Augmentation,
    augment,
    change_gamma,
    match_histogram,
    mix_amplitude,
    recompress,
    resample,
)
from trainer.data.sampling import balanced_batches, class_weights, guest_batches, shuffled_batches, undersample
from trainer.recipes.mobilenetv2_house import MOBILENETV2_HOUSE
from worker.errors import BadData

Image = NDArray[np.uint8]
STRONG = MOBILENETV2_HOUSE.augmentation


def picture(seed: int, level: float = 120.0) -> Image:
    """Soft shadows and fine structure, 64 x 64 px, around a grey level."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (64, 64)).astype(np.float32)
    shadows, edges = 200 * cv2.GaussianBlur(noise, (0, 0), 4), 20 * cv2.GaussianBlur(noise, (0, 0), 1)
    return np.asarray(np.clip(shadows + edges + level, 0, 255), np.uint8)


def test_the_same_seed_gives_the_same_view_and_another_seed_another() -> None:
    image, other = picture(1), picture(2)
    views = [augment(image, other, STRONG, np.random.default_rng(s)) for s in (5, 5, 6)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_every_view_keeps_shape_and_type_and_leaves_its_sources_alone() -> None:
    image, other = picture(1), picture(2)
    before = image.copy()
    rng = np.random.default_rng(0)
    for _ in range(100):
        view = augment(image, other, STRONG, rng)
        assert view.shape == image.shape
        assert view.dtype == np.uint8
    assert np.array_equal(image, before)


def test_all_changes_off_leave_the_image() -> None:
    image = picture(3)
    assert np.array_equal(augment(image, picture(4), Augmentation(), np.random.default_rng(0)), image)


def test_what_comes_from_outside_is_air_or_the_border() -> None:
    image = np.full((64, 64), 200, np.uint8)
    turned = Augmentation(rotation_max_deg=20.0, shift_max=0.1)
    with_air = augment(image, image, turned, np.random.default_rng(1))
    repeated = augment(image, image, replace(turned, is_border_repeated=True), np.random.default_rng(1))
    assert with_air.min() == 0
    assert repeated.min() == 200


def test_a_shift_moves_the_picture_by_so_much_at_most() -> None:
    image = np.zeros((64, 64), np.uint8)
    image[30:34, 30:34] = 255
    reach = []
    for seed in range(40):
        rows, columns = np.nonzero(augment(image, image, Augmentation(shift_max=0.25), np.random.default_rng(seed)))
        reach.append(max(abs(rows.mean() - 31.5), abs(columns.mean() - 31.5)))
    assert 12 < max(reach) <= 16.5


def test_amplitude_mix_takes_the_others_brightness_and_keeps_the_structure() -> None:
    image, other = picture(1, level=80), picture(2, level=170)
    mixed = mix_amplitude(image, other, 0.1, 1.0)
    assert abs(float(mixed.mean()) - float(other.mean())) < 5
    assert np.array_equal(mix_amplitude(image, other, 0.1, 0.0), image)
    high = [i.astype(np.float32) - cv2.GaussianBlur(i.astype(np.float32), (0, 0), 1) for i in (image, mixed)]
    assert np.corrcoef(high[0].ravel(), high[1].ravel())[0, 1] > 0.8


def test_histogram_match_takes_the_others_greys() -> None:
    image, other = picture(1, level=80), picture(2, level=170)
    matched = match_histogram(image, other)
    assert np.quantile(matched, (0.1, 0.5, 0.9)) == pytest.approx(np.quantile(other, (0.1, 0.5, 0.9)), abs=6)


def test_gamma_resample_and_compression_change_what_they_say() -> None:
    image = picture(1)
    assert change_gamma(image, 1.6).mean() < image.mean() < change_gamma(image, 0.6).mean()
    assert np.array_equal(change_gamma(image, 1.0), image)
    coarse = resample(image, 16, cv2.INTER_AREA, cv2.INTER_NEAREST)
    assert coarse.shape == image.shape
    assert len(np.unique(coarse)) <= 256 < image.size
    damage = [np.abs(recompress(image, q).astype(int) - image).mean() for q in (10, 95)]
    assert damage[0] > damage[1]


def test_batches_are_balanced_and_no_image_repeats_before_its_class_is_through() -> None:
    labels = np.array([0] * 20 + [1] * 60)
    batches = balanced_batches(labels, 8, np.random.default_rng(0))
    assert batches.shape == (10, 8)
    assert (labels[batches].sum(axis=1) == 4).all()
    drawn = batches[labels[batches] == 0]
    assert len(np.unique(drawn[:20])) == 20


def test_guests_take_their_share_of_each_class_and_hosts_the_rest() -> None:
    labels = np.array([0] * 40 + [1] * 120 + [0] * 6 + [1] * 3)
    is_guest = np.arange(len(labels)) >= 160
    batches = guest_batches(labels, is_guest, (0.25, 0.125), 16, np.random.default_rng(0))
    assert batches.shape == (10, 16)
    assert (labels[batches].sum(axis=1) == 8).all()
    for label, count in ((0, 2), (1, 1)):
        assert ((labels[batches] == label) & is_guest[batches]).sum(axis=1).tolist() == [count] * 10
    with pytest.raises(BadData, match="smaller sources hold no training image of class 1"):
        guest_batches(labels[:-3], is_guest[:-3], (0.25, 0.125), 16, np.random.default_rng(0))


def test_an_empty_class_cannot_be_balanced() -> None:
    with pytest.raises(BadData, match="class 1"):
        balanced_batches(np.zeros(10, np.int64), 4, np.random.default_rng(0))
    with pytest.raises(BadData, match="empty"):
        class_weights(np.zeros(10, np.int64))
    with pytest.raises(BadData, match="empty"):
        undersample(np.ones(10, np.int64), np.random.default_rng(0))


def test_weights_and_undersampling_even_the_classes() -> None:
    labels = np.array([0] * 10 + [1] * 30)
    weights = class_weights(labels)
    assert 10 * weights[0] == pytest.approx(30 * weights[1]) == pytest.approx(20)
    kept = undersample(labels, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [10, 10]


def test_shuffled_batches_take_no_image_twice() -> None:
    labels = np.array([1] * 50 + [0] * 20)
    order = shuffled_batches(labels, 16, np.random.default_rng(0))
    assert order.shape == (4, 16)
    assert len(np.unique(order)) == 64
    assert shuffled_batches(labels[:5], 16, np.random.default_rng(0)).shape == (1, 5)
