"""Output as shells and cron leave it: closed, full, in another encoding, on a terminal of no width."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}


def worker(redirected: str, verb: str, home: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$0" -m worker {verb} {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable],
        env={**PLAIN, "SCREENING_HOME": str(home), **environment},
        capture_output=True,
    )


@pytest.mark.parametrize("redirected", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_no_fault(redirected: str, tmp_path: Path) -> None:
    done = worker(redirected, "settings", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_file_gets_no_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os; from worker.cli.streams import make_usable; make_usable();"
        f"number = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY);"
        "os.write(2, b'a warning of a library'); os.write(1, b'more'); os._exit(number)"
    )
    done = subprocess.run(["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], env=PLAIN)
    assert done.returncode > 2
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has it")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["settings", "settings --json", "--help"])
def test_a_full_disk_is_told_in_one_line(verb: str, unbuffered: str, tmp_path: Path) -> None:
    done = worker("> /dev/full", verb, tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == b"worker: the output cannot be written: No space left on device [output]\n"


#: A verb that meets an error of the operating system which is none of the output.
FAULTY = """
import errno, os, socket, sys
from worker.cli.main import app, main

@app.command()
def closed_pipe():
    there, here = socket.socketpair()
    there.close()
    here.sendall(b"x")

@app.command()
def bad_disk():
    raise OSError(errno.EIO, os.strerror(errno.EIO))

@app.command()
def full_error_output():
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    sys.stderr.write("a warning\\n")

main()
"""


def run_faulty(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", FAULTY, verb], env=PLAIN, capture_output=True, text=True)


@pytest.mark.parametrize(("verb", "error"), [("closed-pipe", "BrokenPipeError"), ("bad-disk", "OSError")])
def test_an_error_of_another_file_is_none_of_the_output(verb: str, error: str) -> None:
    done = run_faulty(verb)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"\n{error}: [Errno" in done.stderr
    assert "output cannot be written" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has it")
def test_error_output_that_is_full_ends_the_verb() -> None:
    done = run_faulty("full-error-output")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_who_reads_no_further_gets_no_word(tmp_path: Path) -> None:
    done = worker("| true", "settings --json", tmp_path)
    assert done.stderr == b""


def test_what_the_encoding_lacks_is_printed_as_codes(tmp_path: Path) -> None:
    done = worker("", "settings", tmp_path / "\u00e4\u6f22", PYTHONIOENCODING="ascii", COLUMNS="400")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\xe4\u6f22" in done.stdout


@pytest.mark.parametrize("columns", ["0", "1", "20"])
def test_a_terminal_of_hardly_any_width_loses_no_column(columns: str, tmp_path: Path) -> None:
    done = worker("", "settings", tmp_path, COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, b"")
    told = "".join(done.stdout.decode().split("\n"))
    for word in ("envi", "value", "from", "default"):
        assert word in told
