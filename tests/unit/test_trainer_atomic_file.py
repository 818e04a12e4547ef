"""A file is written whole or not at all; what is no regular file is never replaced by one."""

import os
from pathlib import Path

from trainer.data.atomic_file import write_atomically


def test_a_link_stays_and_its_target_gets_the_new_content(tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "split.csv", tmp_path / "split.csv"
    target.parent.mkdir()
    link.symlink_to(Path("disk") / "split.csv")
    for content in (b"the first, where the target is not there yet", b"the next"):
        write_atomically(content, link)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "split.csv", "split.csv"]


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(b"split", pipe)
        assert pipe.is_fifo()
        assert os.read(reader, 100) == b"split"
    finally:
        os.close(reader)
