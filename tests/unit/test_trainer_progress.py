"""Progress of a run: bars and lines on a terminal, JSON lines into a pipe."""

import io
import json
from pathlib import Path

from trainer.progress import reporting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(out: io.StringIO, log: Path | None = None) -> None:
    with reporting(log, out) as report:
        for step in range(1, 51):
            report({"event": "batch", "epoch": 1, "done": step, "total": 50, "loss": 0.5, "accuracy": 0.75})
        report({"event": "epoch", "epoch": 1, "loss": 0.123456})


def test_a_pipe_gets_json_lines_and_not_one_a_batch() -> None:
    out = io.StringIO()
    tell(out)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["batch", "epoch"]
    assert events[1]["loss"] == 0.123456


def test_a_terminal_shows_the_live_metrics_and_the_log_stays_json(tmp_path: Path) -> None:
    out = Terminal()
    tell(out, tmp_path / "log.jsonl")
    assert "epoch 1: loss 0.500, accuracy 0.750" in out.getvalue()
    assert "50/50" in out.getvalue()
    assert "0.1235" in out.getvalue()
    assert '{"event"' not in out.getvalue()
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["event"] == "epoch"


def test_a_second_run_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    tell(io.StringIO(), log)
    tell(io.StringIO(), log)
    assert len(log.read_text().splitlines()) == 4


def test_a_name_in_brackets_is_shown_as_it_is() -> None:
    out = Terminal()
    with reporting(out=out) as report:
        report({"event": "unreadable", "path": "ward [b]/x [/b].png"})
    assert "ward [b]/x [/b].png" in out.getvalue()
