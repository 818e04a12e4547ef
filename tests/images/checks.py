"""What is asked of an image once it is built. Each check returns what it found; one that fails says so in `passed`."""

import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.images.engine import Engine

SAMPLES = Path("tests/data/inbox")

#: Of ONNX Runtime's CUDA provider: the CPU image has none on purpose, and asks for none.
OF_CUDA = re.compile(r"lib(cu(da|dart|blas|blasLt|dnn|fft|rand)|nv\w+)\.so\.\d+")

#: Programs that an image does not need and an intruder would use.
TOOLS = ("cc", "gcc", "make", "git", "curl", "wget", "pip", "pip3")

#: Scores of two processors differ in the last digits.
TOLERANCE = 1e-3

#: Time for the service to be healthy, and to screen a study, on a busy machine.
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Found:
    """The outcome of one check."""

    what: str
    passed: bool
    found: Any

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.what}: {self.found}"

    def row(self) -> dict[str, Any]:
        """As written into the record."""
        return asdict(self)


Check = Callable[[Engine, str], Found]


def says_who_it_is(engine: Engine, image: str) -> Found:
    """The image names a user that is not root, and a health check or that it has none."""
    told = engine.inspect(image)
    config, health = told["Config"], told.get("Healthcheck") or {}
    found = {"user": config["User"], "health check": health.get("Test"), "stop signal": config.get("StopSignal")}
    return Found("user, health check", found["user"] == "10001:10001" and bool(found["health check"]), found)


def lacks_no_library(engine: Engine, image: str) -> Found:
    """Every shared object of the environment finds the libraries it names, in the system or in its own wheel."""
    # a wheel's own libraries name each other and are found once its first module has loaded them
    script = (
        "cd /opt/screening && find . -name '*.so*' -exec ldd {} + 2>/dev/null; find . -name '*.so*' -printf 'has %f\\n'"
    )
    told = engine.shell(image, script).stdout
    missing = set(re.findall(r"^\s*(\S+) => not found", told, re.MULTILINE))
    missing -= set(re.findall(r"^has (\S+)$", told, re.MULTILINE))
    cuda = {name for name in missing if OF_CUDA.fullmatch(name)}
    looked_at = len(re.findall(r"^\./\S+:$", told, re.MULTILINE))
    found = {"looked at": looked_at, "missing": sorted(missing - cuda), "missing, of CUDA": sorted(cuda)}
    return Found("shared libraries", looked_at > 0 and missing == cuda, found)


def brings_no_tools(engine: Engine, image: str) -> Found:
    """No compiler, no fetcher, no pip in the image that runs."""
    asked = " ".join(TOOLS)
    told = engine.shell(image, f"for tool in {asked}; do command -v $tool; done; true")
    return Found(f"none of {asked}", told.returncode == 0 and not told.stdout.strip(), told.stdout.split())


def trains_nothing(engine: Engine, image: str) -> Found:
    """No training framework can be imported."""
    names = ("tensorflow", "keras", "torch", "tf2onnx")
    asked = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name)])"
    told = engine.run(image, "python", "-c", asked)
    return Found(f"none of {', '.join(names)}", told.stdout.strip() == "[]", told.stdout.strip() or told.stderr[-300:])


def writes_nowhere_else(engine: Engine, image: str) -> Found:
    """The root file system is read-only, and the user is the one of the image."""
    script = "id -u; for at in / /opt /etc /usr; do touch $at/x 2>/dev/null && echo $at; done; true"
    found = engine.shell(image, script).stdout.split()
    return Found("user 10001, writes nowhere outside its volumes", found == ["10001"], found)


def screens_the_samples(engine: Engine, image: str) -> Found:
    """`worker screen` on the sample studies gives what it gives outside of the image."""
    told = engine.run(
        image, "worker", "screen", "/samples", "--json", options=[f"--volume={SAMPLES.absolute()}:/samples:ro"]
    )
    if told.returncode != 0:
        return Found("worker screen on the samples", False, {"exit": told.returncode, "said": told.stderr[-1000:]})
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "worker", "screen", str(SAMPLES), "--json"]
        outside = subprocess.run(
            command, env={"SCREENING_HOME": home, "PATH": "/usr/bin:/bin"}, capture_output=True, check=True
        )
    inside, expected = verdicts(told.stdout), verdicts(outside.stdout)
    same = inside.keys() == expected.keys() and all(
        inside[name][0] == verdict and abs((inside[name][1] or 0) - (probability or 0)) <= TOLERANCE
        for name, (verdict, probability) in expected.items()
    )
    counts = {
        verdict: sum(v == verdict for v, _ in inside.values()) for verdict in sorted({v for v, _ in inside.values()})
    }
    return Found(
        "worker screen on the samples: verdicts as outside of the image", same, {"studies": len(inside), **counts}
    )


def verdicts(printed: str | bytes) -> dict[str, tuple[str, float | None]]:
    """Verdict and probability of each study of a printed list, by the name of its first file."""
    entries = json.loads(printed)
    return {Path(min(entry["sources"])).name: (entry["verdict"], entry["probability"]) for entry in entries}


def serves_and_stops(engine: Engine, image: str) -> Found:
    """Its own command: well by its health check, a dropped study comes onto the list, SIGTERM ends it with 0."""
    sample = SAMPLES / "anna_explicit.dcm"
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder)
        inbox.chmod(0o777)  # of the image's user, whose number nobody here has
        with engine.service(image, [f"--volume={inbox}:/inbox", "--env=SCREENING_STUDY_QUIET_S=1"]) as name:
            well = waited(lambda: engine.podman("healthcheck", "run", name, check=False).returncode == 0)
            shutil.copy(sample, inbox)
            listed = waited(
                lambda: (
                    '"verdict": "' in engine.podman("exec", name, "worker", "worklist", "--json", check=False).stdout
                )
            )
            engine.podman("stop", "--time", "120", name)
            ended = int(engine.podman("inspect", "--format", "{{.State.ExitCode}}", name).stdout)
    found = {"healthy": well, "a dropped study was screened": listed, "exit after SIGTERM": ended}
    return Found("its own command, health check and SIGTERM", well and listed and ended == 0, found)


def waited(is_so: Callable[[], bool]) -> bool:
    """Whether it became so within the patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(1.0)
    return True


def names_its_recipes(engine: Engine, image: str) -> Found:
    """The trainer's own command."""
    told = engine.run(image)
    named = [name for name in ("mobilenetv2_house", "scratch_cnn") if name in told.stdout]
    return Found("its own command: trainer recipes", told.returncode == 0 and len(named) == 2, named)


def trains_on_the_samples(engine: Engine, image: str) -> Found:
    """`trainer fit` on the sample images: a model file, without a network and as a user that is not root."""
    with tempfile.TemporaryDirectory() as folder:
        data, runs = Path(folder, "data"), Path(folder, "runs")
        for sample in labelled():
            copied = data / sample["label"].upper() / sample["file"]
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLES / sample["file"], copied)
        runs.mkdir()
        for place in (Path(folder), runs):
            place.chmod(0o777)  # of the image's user, whose number nobody here has
        told = engine.run(
            image, "fit", "--data", "/data", "--recipe", "scratch_cnn", "--epochs", "1", "--each-file-a-patient",
            "--out", "/runs/next", "--no-report", options=[f"--volume={data}:/data:ro", f"--volume={runs}:/runs"],
        )  # fmt: skip
        models = [model.name for model in runs.glob("next/*.onnx")]
    passed = told.returncode == 0 and bool(models)
    return Found("trainer fit on the samples, to a model file", passed, models or told.stderr[-600:])


def labelled() -> list[dict[str, str]]:
    """The sample files whose label is known."""
    with Path("tests/data/labels.csv").open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["label"]]


WORKER: tuple[Check, ...] = (
    says_who_it_is, lacks_no_library, brings_no_tools, trains_nothing, writes_nowhere_else, screens_the_samples,
    serves_and_stops,
)  # fmt: skip

TRAINER: tuple[Check, ...] = (
    says_who_it_is, lacks_no_library, brings_no_tools, writes_nowhere_else, names_its_recipes,
    trains_on_the_samples,
)  # fmt: skip
