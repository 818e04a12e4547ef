"""What browsers load from the page: one script that is not ours, small scripts of our own; what `worker web` loads."""

import hashlib
import subprocess
import sys
from pathlib import Path

import worker.web

STATIC = Path(worker.web.__file__).parent / "static"

#: htmx 2.0.11 (0BSD), `dist/htmx.min.js` of its package.
HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"


def test_the_one_script_that_is_not_ours_is_unchanged() -> None:
    assert hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX


def test_scripts_and_style_are_small() -> None:
    ours = [file for file in STATIC.glob("*.js") if file.name != "htmx.min.js"]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in ours) < 1000
    assert sum(file.stat().st_size for file in [*STATIC.glob("*.js"), *STATIC.glob("*.css")]) <= 100_000


def test_no_script_loads_from_elsewhere_or_makes_code_of_text() -> None:
    for file in STATIC.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        if file.name != "htmx.min.js":
            assert not any(
                word in text for word in ("http://", "https://", "eval(", "new Function", "insertAdjacentHTML")
            )


def test_the_page_loads_no_queue_and_no_model() -> None:
    code = "import sys, worker.web.server; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"celery", "kombu", "redis", "onnxruntime", "tensorflow", "keras"} & set(done.stdout.split())


def test_other_verbs_load_nothing_of_the_page() -> None:
    code = (
        "import sys, worker.cli.main, worker.worklist.unread_list; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"starlette", "uvicorn", "argon2", "jinja2"} & set(done.stdout.split())
