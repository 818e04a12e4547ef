"""The out-of-fold predictions are in their file whole or not at all."""

from pathlib import Path

import pytest

from trainer.run.out_of_fold import write_predictions

ROW = ("NORMAL/a.png", 0, "normal", "a", "a", 1, 0.1, 0.5, 0)


def test_a_fault_while_predictions_are_written_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out_of_fold.csv"
    write_predictions([ROW, ("NORMAL/b.png", *ROW[1:])], path)
    whole = path.read_bytes()
    assert whole.splitlines()[1] == b"NORMAL/a.png,0,normal,a,a,1,0.1,0.5,0"
    with pytest.raises(UnicodeEncodeError):
        write_predictions([ROW, ("NORMAL/\udcff.png", *ROW[1:])], path)
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
