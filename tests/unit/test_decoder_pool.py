"""Several decoder children decode images in parallel, and a lost child loses one image."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests import crashing_decoder
from tests.phantoms import JPEG_LS, dicom_file, picture
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import DecoderCrashed, DecoderUnavailable
from worker.imaging.image_file import open_image, read_display, stored_digest
from worker.imaging.limits import DEFAULT
from worker.settings import Settings

GOOD = dicom_file(picture(bits=8), JPEG_LS)


@pytest.fixture(scope="module")
def pair() -> Iterator[DecoderPool]:
    with closing(DecoderPool([Decoder(memory_mib=2048, program=crashing_decoder.PROGRAM) for _ in range(2)])) as pair:
        pair.prove()
        yield pair


def asking_for(words: str) -> bytes:
    return dicom_file(picture(bits=8), JPEG_LS, ImageComments=f"CODEC-{words} ")


def test_two_images_are_decoded_at_the_same_time(pair: DecoderPool, tmp_path: Path) -> None:
    image = open_image(asking_for(f"MEET {tmp_path}"))
    with ThreadPoolExecutor(2) as pool:
        shown = list(pool.map(pair.read_display, [image, image]))
    assert len(list(tmp_path.iterdir())) == 2, "one child decoded both"
    assert all(np.array_equal(each.pixels, read_display(GOOD).pixels) for each in shown)


def test_a_crash_takes_one_image_and_every_child_serves_on(pair: DecoderPool, tmp_path: Path) -> None:
    images = [open_image(asking_for("CRASH")) if number == 2 else open_image(GOOD) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(pair.read_display, image) for image in images]
    with pytest.raises(DecoderCrashed):
        asked.pop(2).result()
    assert all(np.array_equal(each.result().pixels, read_display(GOOD).pixels) for each in asked)
    test_two_images_are_decoded_at_the_same_time(pair, tmp_path)


def test_a_digest_is_that_of_one_child(pair: DecoderPool) -> None:
    assert pair.stored_digest(GOOD, DEFAULT) == stored_digest(GOOD)


def test_one_child_that_does_not_come_up_is_told() -> None:
    with closing(DecoderPool([Decoder(program=("/bin/false",))])) as decoders, pytest.raises(DecoderUnavailable):
        decoders.prove()


def test_there_are_as_many_as_studies_are_screened_at_a_time(tmp_path: Path) -> None:
    decoders = DecoderPool.of(Settings(home=tmp_path, studies_at_once=3, decoder_deadline_s=7.0))
    with decoders._one() as first, decoders._one() as second, decoders._one() as third:
        assert len({first, second, third}) == 3
        assert {each.deadline_s for each in (first, second, third)} == {7.0}
