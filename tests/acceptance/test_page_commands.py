"""Every command of every page is run here as it stands, or the page's source says why not (tests/page_commands.py)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brightness_model import write_image
from tests.page_commands import MARK, PAGES, ROOT, Block, blocks
from worker.runtime.settings_file import NO_FILE

#: What a page leaves open, and what it is here.
PLACEHOLDERS = {
    "deploy/RUNBOOK.md": {"STUDY": "ACC-0007"},
    "README.md": {"some/folder": "tests/data/inbox"},
    "trainer/README.md": {"DATA": "labelled"},
}

#: What has been done before a reader comes to the commands of a page.
BEFORE = {
    "deploy/RUNBOOK.md": "worker screen tests/data/inbox",
    "tests/README.md": "worker screen tests/data/inbox",
    "trainer/README.md": "python -c 'from tests.acceptance.test_page_commands import label; label()'",
}

#: Ends a page whose commands hang.
PATIENCE_S = 900


def label() -> None:
    """Write labelled images of many patients into the current folder."""
    for number in range(80):
        folder, name = (("NORMAL", f"IM-{number:04d}-1"), ("PNEUMONIA", f"person{number}_virus_1"))[number % 2]
        write_image(Path("labelled", folder, f"{name}.png"), 60 + number, noise=number)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def script(page: Path) -> str:
    """The commands of a page that are run, as one session of one shell."""
    commands = [command for block in blocks(page) for command in block.runs]
    text = "\n".join(commands)
    for word, meant in PLACEHOLDERS.get(name_of(page), {}).items():
        text = re.sub(rf"(?<![\w/]){word}(?![\w/])", meant, text)
    return text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_not_run_says_why(page: Path) -> None:
    marks = [line for line in page.read_text(encoding="utf-8").splitlines() if "not run" in line and "<!--" in line]
    assert [line for line in marks if not MARK.match(line.strip())] == [], "a mark that is none"
    found: list[Block] = blocks(page)
    assert sum(len(block.marks) for block in found) == len(marks), "a mark above no block"
    assert [(block.line, block.idle_marks) for block in found if block.idle_marks] == []


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh copy of the repository, whose environment is ours."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    folder = tmp_path / "clone"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    environment = folder / ".venv"
    environment.mkdir()
    for part in ("bin", "lib", "lib64", "pyvenv.cfg"):
        if (Path(sys.prefix) / part).exists():
            (environment / part).symlink_to(Path(sys.prefix) / part)
    for stamp in ("worker.stamp", "dev.stamp"):
        (environment / stamp).touch()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("page", [page for page in PAGES if script(page)], ids=name_of)
def test_the_commands_of_a_page_work_as_they_stand(page: Path, clone: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    plain |= {"SCREENING_SETTINGS": NO_FILE, "SCREENING_MIN_FREE_MIB": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    plain["PATH"] = f"{Path(sys.executable).parent}:{plain['PATH']}"
    session = f"set -e\n{BEFORE.get(name_of(page), '')}\nset -x\n{script(page)}\n"
    done = subprocess.run(
        ["bash", "-c", session], cwd=clone, env=plain, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
