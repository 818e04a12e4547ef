"""The manifests obey the API of Kubernetes and say what the program says: verbs, settings, queues, time limits.

No package holds KEDA's schemas for Python: that its objects obey them was tried by hand (deploy/kubernetes/README.md).
"""

import re
import shutil
import subprocess
from copy import deepcopy
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from tests.ledger import STUDY, Ledger
from worker.app import HARD_TIME_LIMIT_S
from worker.cli.main import app
from worker.ledger.screening.outbox import QUEUES
from worker.runtime.children import DRAIN_S
from worker.runtime.configuration import names
from worker.worklist import underway

FOLDER = Path("deploy/kubernetes")
OVERLAYS = ("base", "gpu", "dicom")

#: The oldest release that knows every field, and the newest that has a schema here.
RELEASES = ("1.29", "1.37")

#: What Pod Security "restricted" asks of each container.
RESTRICTED = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip

Resource = dict[str, Any]


def listed(overlay: str) -> list[str]:
    """The files that a kustomization applies."""
    kustomization = yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text(encoding="utf-8"))
    return [name for name in kustomization["resources"] if name.endswith(".yaml")]


@cache
def everything() -> tuple[Resource, ...]:
    """Every object of the manifests; not to be altered."""
    files = [FOLDER / overlay / name for overlay in OVERLAYS for name in listed(overlay)]
    return tuple(document for file in files for document in yaml.safe_load_all(file.read_text(encoding="utf-8")))


def resources(kind: str = "") -> list[Resource]:
    """Every object of the manifests, or those of one kind."""
    return [resource for resource in everything() if kind in ("", resource["kind"])]


def pods() -> list[tuple[str, Resource, Resource]]:
    """Name, pod and only container of all that runs."""
    found = []
    for resource in resources("Deployment") + resources("Job") + resources("CronJob"):
        spec = resource["spec"]
        pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        found.append((resource["metadata"]["name"], pod, container))
    return found


each_pod = pytest.mark.parametrize(
    ("name", "pod", "container"), pods(), ids=lambda value: value if isinstance(value, str) else ""
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_applied(overlay: str) -> None:
    assert {*listed(overlay), "kustomization.yaml"} == {file.name for file in (FOLDER / overlay).glob("*.yaml")}


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_obeys_the_schema_of_the_api(release: str) -> None:
    ours = [resource for resource in resources() if not resource["apiVersion"].startswith("keda.sh/")]
    assert len(ours) >= 15
    for resource in ours:
        kubernetes_validate.validate(resource, release, strict=True)


def test_the_schema_would_find_a_fault() -> None:
    (found,) = [resource for resource in resources("Deployment") if resource["metadata"]["name"] == "watcher"]
    watcher = deepcopy(found)
    watcher["spec"]["template"]["spec"]["containers"][0]["comand"] = ["worker"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(watcher, RELEASES[-1], strict=True)


@each_pod
def test_no_pod_is_root_or_writes_outside_its_volumes_or_takes_all_the_node(
    name: str, pod: Resource, container: Resource
) -> None:
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001), name
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == RESTRICTED
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    allowed = {"persistentVolumeClaim", "emptyDir", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@each_pod
def test_every_pod_starts_a_verb_with_settings_that_the_program_knows(
    name: str, pod: Resource, container: Resource
) -> None:
    program, *words = container["args"]
    assert program == "celery" or (program == "worker" and words[0] in app.commands), name
    assert container["image"] in ("chest-screening-worker", "chest-screening-worker-gpu")
    given = {variable["name"] for variable in container["env"] if variable["name"].startswith("SCREENING_")}
    assert given <= set(names())
    assert pod["volumes"]


def test_the_settings_are_ones_that_the_program_knows_and_no_secret_stands_in_a_file() -> None:
    (settings,) = [found for found in resources("ConfigMap") if found["metadata"]["name"] == "screening"]
    assert set(settings["data"]) <= set(names())
    assert resources("Secret") == []
    for _, _, container in pods():
        secret = {v["name"] for v in container["env"] if "secretKeyRef" in v.get("valueFrom", {})}
        assert secret == {"PGPASSWORD", "REDIS_PASSWORD"}


def test_a_pod_is_given_longer_to_end_than_its_work_may_take() -> None:
    patience = {name: pod.get("terminationGracePeriodSeconds", 30) for name, pod, _ in pods()}
    assert patience["worker"] > HARD_TIME_LIMIT_S
    assert patience["worker-gpu"] > HARD_TIME_LIMIT_S
    assert patience["watcher"] >= DRAIN_S


def test_whatever_takes_messages_is_scaled_by_every_queue_it_empties_and_by_age() -> None:
    celery = {name: container for name, _, container in pods() if container["args"][0] == "celery"}
    scaled = {found["spec"]["scaleTargetRef"]["name"]: found["spec"] for found in resources("ScaledObject")}
    assert scaled.keys() == celery.keys()
    for name, spec in scaled.items():
        queues = {t["metadata"]["listName"] for t in spec["triggers"] if t["type"] == "redis"}
        assert queues <= set(map(str, QUEUES))
        of_container = {variable["name"] for variable in celery[name]["env"]}
        asked = {value for t in spec["triggers"] for key, value in t["metadata"].items() if key.endswith("FromEnv")}
        assert asked <= of_container
        assert [t["metricType"] for t in spec["triggers"] if t["type"] == "postgresql"] == ["Value"]
    assert scaled["worker"]["minReplicaCount"] >= 1, "a STAT study would wait for a pod to start"
    assert {t["metadata"].get("listName") for t in scaled["worker"]["triggers"]} >= set(map(str, QUEUES))
    for deployment in resources("Deployment"):
        assert ("replicas" in deployment["spec"]) != (deployment["metadata"]["name"] in scaled), (
            "two would say how many"
        )


def test_keda_asks_the_database_that_the_program_uses() -> None:
    (settings,) = [found for found in resources("ConfigMap") if found["metadata"]["name"] == "screening"]
    url = settings["data"]["SCREENING_DATABASE"]
    for asked in (t["metadata"] for found in resources("ScaledObject") for t in found["spec"]["triggers"]):
        if "query" in asked:
            assert url == (
                f"postgresql://{asked['userName']}@{asked['host']}:{asked['port']}/{asked['dbName']}"
                f"?sslmode={asked['sslmode']}"
            )


@pytest.mark.parametrize("kind", ["postgresql"])
def test_keda_counts_the_oldest_study_as_the_program_does(desk: Ledger) -> None:
    queries = {t["metadata"]["query"] for found in resources("ScaledObject") for t in found["spec"]["triggers"]
               if "query" in t["metadata"]}  # fmt: skip
    (query,) = queries
    with desk.database.reading() as connection:
        assert connection.execute(text(query)).scalar_one() == 0
    desk.receive(STUDY)
    with desk.database.reading() as connection:
        now, asked = connection.execute(text(f"SELECT now(), ({query})")).one()
    told = underway.longest_wait_s(desk.database, now)
    assert timedelta(seconds=float(asked)) == pytest.approx(timedelta(seconds=told), abs=timedelta(seconds=1))


def test_probes_ask_for_paths_that_metrics_answers_and_for_verbs() -> None:
    answering = ("worker/monitoring/exporter.py", "worker/web/application.py")
    exporter = "".join(Path(file).read_text(encoding="utf-8") for file in answering)
    for _, _, container in pods():
        for probe in (container[key] for key in container if key.endswith("Probe")):
            if "httpGet" in probe:
                assert f'"{probe["httpGet"]["path"]}"' in exporter
            else:
                assert probe["exec"]["command"][1] in app.commands


def test_only_monitoring_may_ask_and_only_database_and_broker_are_asked() -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in resources("NetworkPolicy")}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {port["port"] for spec in policies.values() for rule in spec.get("egress", []) for port in rule["ports"]}
    assert ports == {53, 5432, 6379, 104}  # and the archive, by the sender alone
    assert [name for name, spec in policies.items() if "ingress" in spec] == ["metrics", "page", "receiver"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_puts_them_together(overlay: str) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", FOLDER / overlay], capture_output=True, text=True, check=True
    ).stdout
    images = set(re.findall(r"image: (\S+)", built))
    assert all(re.fullmatch(r"registry\.example\.org/chest-screening-worker(-gpu)?:[\d.]+", image) for image in images)
