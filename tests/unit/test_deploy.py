"""What is deployed fits the program: names of settings and verbs, time limits, secrets, pictures of the real code."""

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from deploy import contact_sheet
from worker.cli.main import app
from worker.runtime.configuration import names

COMPOSE, DOCKERFILE = Path("docker/compose.yaml"), Path("docker/worker.Dockerfile")
TRAINER_DOCKERFILE = Path("docker/trainer.Dockerfile")
UNIT_ENVIRONMENT = Path("deploy/worker.env.example")


@pytest.mark.parametrize("path", [COMPOSE, DOCKERFILE, UNIT_ENVIRONMENT], ids=lambda path: path.name)
def test_every_setting_named_there_is_one_the_program_knows(path: Path) -> None:
    named = set(re.findall(r"\bSCREENING_[A-Z_]*[A-Z]\b(?!_\*)", path.read_text()))
    assert named, "the file sets nothing: then it is not the file that is meant"
    assert named <= set(names())


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (COMPOSE, r"command: \[worker, ([a-z]+)"),
        (DOCKERFILE, r'CMD \["worker", "([a-z]+)"'),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_every_verb_started_there_is_one_of_the_program(path: Path, pattern: str) -> None:
    verbs = re.findall(pattern, path.read_text())
    assert verbs
    assert set(verbs) <= set(app.commands)


def test_compose_starts_neither_without_passwords_nor_with_a_port_for_others() -> None:
    text = "\n".join(line.split("#")[0] for line in COMPOSE.read_text().splitlines())
    secrets = re.findall(r"(?<!\$)\$\{?(\w*PASSWORD)(\S{0,2})", text)
    assert {name for name, _ in secrets} == {"REDIS_PASSWORD", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(demand == ":?" for _, demand in secrets), "a password has a default, or may be empty"
    published = re.findall(r"^\s*ports:(.*)$", text, re.MULTILINE)
    assert sorted(published) == [
        ' ["${RECEIVE_ADDRESS:-127.0.0.1}:11112:11112"]', ' ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]',
        ' ["127.0.0.1:${WEB_PORT:-8464}:8464"]',
    ]  # fmt: skip


def test_the_example_environment_lists_what_compose_asks_for_and_no_secret() -> None:
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text()))
    listed = dict(re.findall(r"^(\w+)=(.*)$", Path("docker/env.example").read_text(), re.MULTILINE))
    assert set(listed) == asked
    assert [name for name, value in listed.items() if "PASSWORD" in name and value] == []


@pytest.mark.parametrize("image", [DOCKERFILE, TRAINER_DOCKERFILE], ids=lambda path: path.name)
def test_the_image_is_made_of_files_that_exist_and_reach_the_builder(image: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", image.read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    sent = {line[1:] for line in Path(f"{image}.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == sent
    assert [source for source in sources if not Path(source).exists()] == []


def test_the_image_holds_no_training_framework() -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==", Path("requirements.lock").read_text(), re.MULTILINE)
    assert "onnxruntime-gpu" in pinned
    assert {"tensorflow", "keras", "torch", "tf2onnx"}.isdisjoint(pinned)


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


@pytest.mark.parametrize("name", services())
def test_no_service_is_root_or_writes_outside_its_volumes_or_takes_all_the_machine(name: str) -> None:
    service = services()[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    is_ours = service["image"].startswith("chest-screening")
    assert is_ours or service["user"].split(":")[0] not in ("root", "0"), "our image itself says USER"
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    assert "internal" in service["networks"]
    assert is_ours or "healthcheck" in service


def test_every_file_that_compose_mounts_is_there() -> None:
    mounts = [m for service in services().values() for m in service.get("volumes", []) if isinstance(m, str)]
    files = [COMPOSE.parent / mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(files) == 5
    assert [str(file) for file in files if not file.is_file()] == []


RULES, RULE_TESTS = Path("deploy/monitoring/rules.yaml"), Path("deploy/monitoring/rules_test.yaml")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    cases = [case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == silent == alerts


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: prometheus)")
def test_the_alerts_fire_as_their_cases_say() -> None:
    done = subprocess.run(["promtool", "test", "rules", str(RULE_TESTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contact_sheet_takes_both_verdicts_without_choosing_by_eye(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    entries = []
    for number in range(20):
        overlay = tmp_path / f"{number}.png"
        cv2.imwrite(str(overlay), noise)
        verdict = "flagged" if number < 10 else "not_flagged"
        source = f"/in/{number}.dcm"
        entries.append({"verdict": verdict, "heatmap": str(overlay), "study_uid": f"1.{number}", "sources": [source],
                        "probability": 1 - number / 20})  # fmt: skip
    entries.append(entries[0] | {"verdict": "unscreenable", "heatmap": None, "probability": None})
    chosen = contact_sheet.choose(entries, each=3)
    assert [shown.file for shown in chosen] == ["0.dcm", "4.dcm", "9.dcm", "10.dcm", "14.dcm", "19.dcm"]
    encoded = contact_sheet.encode(contact_sheet.sheet(chosen))
    assert len(encoded) <= contact_sheet.LARGEST_BYTES
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] == contact_sheet.COLUMNS * contact_sheet.CELL_W


def about(value: float) -> Any:
    """What was reckoned before it was rounded."""
    return pytest.approx(value, rel=0.05, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on two cores that have nothing else to do
def test_the_throughput_benchmark_measures_a_real_run() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.throughput", "--studies", "2", "--compressed", "2"]
    command += ["--rounds", "1", "--no-warm", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert set(found["runs"]) == {"move", "copy", "leave", "jpeg2000", "htj2k"}
    assert all(run["studies"] == 2 for (run,) in found["runs"].values())
    assert found["linked"] == {"move": 2, "copy": 0, "leave": 0, "jpeg2000": 2, "htj2k": 2}
    assert all(ms > 0 for ms in found["stages_ms"].values())
    # not that it keeps below its roofline: two studies, measured apart, do not where others take the cores meanwhile
    roofline = found["machine"]["cores"] * 1e3 / sum(found["stages_ms"].values())
    assert found["roofline_studies_per_s"] == about(roofline)
    for name, (run,) in found["runs"].items():
        assert found["studies_per_s"][name] == about(2 / run["drop_to_last_row_s"])
    assert found["of_roofline"] == about(found["studies_per_s"]["move"] / found["roofline_studies_per_s"])
    assert found["times_the_plain_way"]["copy"] == about(
        found["studies_per_s"]["copy"] * found["plain_ms"]["uncompressed"] / 1e3
    )
    told = json.dumps(found)
    assert platform.node() not in told
    assert str(Path.cwd()) not in told
