"""Arguments that are not UTF-8: accepted as names of files, refused where they would be stored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schema.migrate import upgrade

LATIN = b"M\xfcller"  # as a terminal set to Latin-1 sends it


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((b"show", LATIN), 1, b"no such study"),
        ((b"prioritise", b"1.2", b"stat", b"--by", LATIN), 64, b"not UTF-8"),
        ((b"review", b"1.2", b"--verdict", b"uncertain", b"--reader", LATIN), 64, b"not UTF-8"),
        ((b"review", b"1.2", b"--verdict", b"uncertain", b"--reader", b"A", b"--comment", LATIN), 64, b"not UTF-8"),
    ],
)
def test_words_that_are_no_utf8(tmp_path: Path, words: tuple[bytes, ...], code: int, told: bytes) -> None:
    upgrade(f"sqlite:///{tmp_path / 'screening.sqlite'}")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"worker", *words],
        env={**plain, "SCREENING_HOME": str(tmp_path)},
        capture_output=True,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    assert told in done.stderr
