"""`worker screen` with the store in a bucket: real processes, led there by the usual AWS variables. Against moto."""

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.installation import SAMPLES, Installation
from tests.brightness_model import write_model
from tests.object_store import ObjectStore


@pytest.mark.slow
def test_an_installation_whose_store_is_a_bucket(served_objects: ObjectStore, bucket: str, tmp_path: Path) -> None:
    settings = {
        "SCREENING_STORE": f"s3://{bucket}/house", "SCREENING_MODEL": str(write_model(tmp_path / "model.onnx")),
        "SCREENING_PROCESSES": "1", **served_objects.environment,
    }  # fmt: skip
    site = Installation(tmp_path / "home", settings)
    (entry,) = site.json("screen", SAMPLES / "ida_8_bit.png")
    assert entry["state"] == "screened"
    assert served_objects.files.cat_file(entry["heatmap"]).startswith(b"\x89PNG")
    assert site.json("model", "show")["file"].startswith(f"s3://{bucket}/house/models/")
    assert not (site.home / "store").exists()
    served_objects.stop()
    try:
        away = subprocess.run(
            site.command("reconcile"),
            env=site.environment(),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    finally:
        served_objects.start()
    assert (away.returncode, "AWS_ENDPOINT_URL" in away.stderr) == (2, True), away.stderr
