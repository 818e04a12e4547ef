"""Dockerfiles and compose.yaml are well made: read by hadolint, a Dockerfile parser and the Compose Specification.

That they can be built and run is proven by `make images`, which takes minutes and an engine.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from dockerfile_parse import DockerfileParser

DOCKERFILES = sorted(Path("docker").glob("*.Dockerfile"))
COMPOSE = Path("docker/compose.yaml")
FILLED_IN = {"REDIS_PASSWORD": "r", "POSTGRES_PASSWORD": "p", "GRAFANA_PASSWORD": "g", "INBOX": "/srv/inbox"}

#: `$$`, `${NAME}`, `${NAME:-default}`, `${NAME:?error}`.
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")

each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Every instruction of a Dockerfile and its value, in order."""
    return [
        (step["instruction"], step["value"])
        for step in DockerfileParser(str(path)).structure
        if step["instruction"] != "COMMENT"
    ]


def last_stage(path: Path) -> dict[str, str]:
    """The instructions of the stage that is shipped; of one that stands there twice, the last."""
    found = instructions(path)
    begins = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[begins:])


@each_dockerfile
def test_hadolint_finds_nothing(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    told = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


@each_dockerfile
def test_every_base_names_its_python_and_its_debian(path: Path) -> None:
    bases = set(DockerfileParser(str(path)).parent_images)
    assert len(bases) == 1, "the environment of one base is copied to another"
    assert re.fullmatch(r"python:3\.12-slim-[a-z]+", bases.pop())


@each_dockerfile
def test_what_is_shipped_is_no_root_and_says_how_it_is(path: Path) -> None:
    shipped = last_stage(path)
    assert shipped["USER"] == "10001:10001"
    assert shipped["HEALTHCHECK"] == "NONE" or shipped["HEALTHCHECK"].endswith('CMD ["worker", "check"]')
    assert shipped["STOPSIGNAL"] == "SIGTERM"
    assert shipped["CMD"].startswith("["), "a shell between would swallow the signal"


@each_dockerfile
def test_dependencies_are_laid_before_our_own_code_and_by_hash_alone(path: Path) -> None:
    found = instructions(path)
    installed = next(i for i, (name, value) in enumerate(found) if name == "RUN" and "pip install" in value)
    ours = next(i for i, (name, value) in enumerate(found) if name == "COPY" and "schema" in value)
    assert installed < ours, "each change of ours would install everything anew"
    for name, value in found:
        if name == "RUN" and "pip install" in value:
            assert "--require-hashes" in value or "--no-deps --no-build-isolation ." in value


def compose(environment: dict[str, str]) -> dict[str, Any]:
    """compose.yaml with its variables filled in and its merges made, as compose itself reads it."""

    def value(found: re.Match[str]) -> str:
        dollar, name, operator, word = found.groups()
        if dollar:
            return "$"
        assert environment.get(name) or operator == "-", word
        return environment.get(name) or str(word)

    read: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value, COMPOSE.read_text(encoding="utf-8")))
    return read


def test_compose_obeys_the_specification() -> None:
    read = PyCompose.from_yaml(yaml.safe_dump(compose(FILLED_IN)))
    assert {"redis", "postgres", "migration", "watcher", "worker", "worker-gpu", "metrics"} <= set(read.service_names())


@pytest.mark.parametrize("fault", [{"restart": "sometimes"}, {"comand": ["worker"]}, {"stop_grace_period": "soon"}])
def test_the_specification_would_find_a_fault(fault: dict[str, Any]) -> None:
    broken = compose(FILLED_IN)
    broken["services"]["watcher"] |= fault
    with pytest.raises(ValueError, match=r"services\.watcher"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


@pytest.mark.parametrize("missing", FILLED_IN)
def test_compose_names_what_is_not_filled_in(missing: str) -> None:
    with pytest.raises(AssertionError, match=f"set {missing} in docker/.env"):
        compose({name: value for name, value in FILLED_IN.items() if name != missing})


def test_named_volumes_belong_to_the_account_of_our_image() -> None:
    """A new volume takes owner and mode of the image's folder; without that folder it belongs to root."""
    made = last_stage(Path("docker/worker.Dockerfile"))["RUN"]
    folders = {
        name
        for line in re.findall(r"install -d -m \d+ -o screening -g screening ([^&]+)", made)
        for name in line.split()
    }
    read = compose(FILLED_IN)
    ours = [service for service in read["services"].values() if service["image"].startswith("chest-screening-worker")]
    mounted = {
        volume.split(":")[1]
        for service in ours
        for volume in service.get("volumes", ())
        if isinstance(volume, str) and not volume.startswith((".", "/"))  # else a folder of the host
    }
    assert {"/store", "/reports"} <= mounted <= folders
