"""A store in a bucket works like one in a folder, and reports faults of the object store. Against moto."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from worker.errors import BadSetting, Interrupted, Rejected, StorageUnavailable, StoredFileLost
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, open_store
from worker.store.bucket import BucketStore
from worker.store.contract import Store

CONTENT = b"a radiograph" * 1000


@pytest.fixture
def keep(served_objects: ObjectStore, bucket: str) -> BucketStore:
    return served_objects.store(bucket)


def versions(served_objects: ObjectStore, bucket: str) -> list[str]:
    """Every object ever written, once for each time."""
    written = served_objects.files.call_s3("list_object_versions", Bucket=bucket)
    return sorted(version["Key"] for version in written.get("Versions", []))


def test_two_stores_keep_content_once_under_its_digest(
    keep: BucketStore, served_objects: ObjectStore, bucket: str
) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    other = served_objects.store(bucket)
    assert other.put(OBJECTS, CONTENT) == digest
    assert (other.get(OBJECTS, digest), other.has(OBJECTS, digest), other.has(OVERLAYS, digest)) == (
        CONTENT,
        True,
        False,
    )
    assert versions(served_objects, bucket) == [f"house/objects/{digest[:2]}/{digest}"]
    assert keep.place(OVERLAYS, digest) == f"s3://{bucket}/house/overlays/{digest[:2]}/{digest}.png"
    (found,) = keep.files(OBJECTS)
    assert (found.digest, found.size_bytes, list(keep.files(OVERLAYS))) == (digest, len(CONTENT), [])


def test_what_was_put_again_is_not_removed(keep: BucketStore, served_objects: ObjectStore, bucket: str) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    (before,) = keep.files(OBJECTS)
    assert keep.remove(before, before.modified_at - 1) is False
    time.sleep(1.1)  # S3 counts whole seconds
    served_objects.store(bucket, fresh_s=0.0).put(OBJECTS, CONTENT)
    assert keep.remove(before, before.modified_at) is False
    assert keep.get(OBJECTS, digest) == CONTENT
    (after,) = keep.files(OBJECTS)
    assert keep.remove(after, after.modified_at) is True
    assert keep.remove(after, after.modified_at) is True, "another was faster"
    assert not keep.has(OBJECTS, digest)


@pytest.mark.parametrize("damage", [b"", b"A" * len(CONTENT)])
def test_damage_is_found_and_what_was_cut_short_is_mended(
    keep: BucketStore, served_objects: ObjectStore, damage: bytes
) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    served_objects.files.pipe_file(keep.place(OBJECTS, digest), damage)
    with pytest.raises(StoredFileLost, match="damaged"):
        keep.get(OBJECTS, digest)
    keep.put(OBJECTS, CONTENT)
    if not damage:
        assert keep.get(OBJECTS, digest) == CONTENT


def test_a_lost_object_is_no_outage_and_a_bucket_that_is_not_there_is(
    keep: BucketStore, served_objects: ObjectStore
) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    served_objects.files.rm_file(keep.place(OBJECTS, digest))
    with pytest.raises(StoredFileLost, match="worker requeue") as lost:
        keep.get(OBJECTS, digest)
    assert isinstance(lost.value, Rejected)
    for_all_uses(served_objects.store("nobodys-bucket"), "there is no bucket nobodys-bucket: make it")


def test_an_outage_is_told_as_one_and_ends_by_itself(keep: BucketStore, served_objects: ObjectStore) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    served_objects.stop()
    try:
        for use in (lambda: keep.get(OBJECTS, digest), lambda: keep.put(OBJECTS, CONTENT), keep.free_mib):
            with pytest.raises(StorageUnavailable, match="AWS_ENDPOINT_URL"):
                use()
    finally:
        served_objects.start()
    assert keep.get(OBJECTS, digest) == CONTENT


def test_refused_access_is_an_outage_that_names_the_credentials(served_objects: ObjectStore, bucket: str) -> None:
    import requests

    ask = f"{served_objects.url}/moto-api/reset-auth"
    assert requests.post(ask, data=b"0", timeout=120).ok, "from now on moto asks who comes"
    try:
        for_all_uses(served_objects.store(bucket), "check AWS_ACCESS_KEY_ID")
    finally:
        assert requests.post(ask, data=b"inf", timeout=120).ok


def for_all_uses(keep: Store, match: str) -> None:
    """Every use of this store is an outage with these words."""
    for use in (
        lambda: keep.put(OBJECTS, b"new"), lambda: keep.get(OBJECTS, "0" * 64), lambda: keep.has(OBJECTS, "0" * 64),
        lambda: list(keep.files(OBJECTS)), lambda: keep.keep_once("key", b"key"), keep.prove_writable, keep.free_mib,
    ):  # fmt: skip
        with pytest.raises(StorageUnavailable, match=match) as away:
            use()
        assert isinstance(away.value, Interrupted)


def test_the_first_under_a_name_stays(keep: BucketStore, served_objects: ObjectStore, bucket: str) -> None:
    assert keep.keep_once("pseudonym.key", b"first") == b"first"
    assert served_objects.store(bucket).keep_once("pseudonym.key", b"second") == b"first"


def test_it_proves_that_it_can_be_written_and_has_no_disk_to_fill(
    keep: BucketStore, served_objects: ObjectStore, bucket: str
) -> None:
    keep.prove_writable()
    assert served_objects.files.find(bucket) == []
    assert keep.free_mib() == float("inf")


def test_a_process_that_forks_asks_with_connections_of_its_own(keep: BucketStore) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    child = os.fork()
    if child == 0:
        os._exit(0 if keep.get(OBJECTS, digest) == CONTENT else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert keep.get(OBJECTS, digest) == CONTENT


def test_an_endpoint_that_is_none_is_a_wrong_setting(served_objects: ObjectStore, bucket: str) -> None:
    with pytest.raises(BadSetting, match="AWS_"):
        served_objects.store(bucket, endpoint_url="localhost").free_mib()


def test_the_setting_names_a_bucket_or_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store="s3://images/house-1/")
    assert settings.store_folder is None
    keep = open_store(settings)
    assert (keep.name, keep is open_store(settings)) == ("s3://images/house-1", True)
    for wrong in ("s3://", "s3:///house", "gs://images", "s3://key:secret@images/house", "http://images/house"):
        with pytest.raises(ValueError, match="s3://bucket/prefix"):
            Settings(home=tmp_path, store=wrong)


def test_without_the_extra_the_program_names_it() -> None:
    program = """
import sys
sys.modules["s3fs"] = None  # as Python sees a package that is not there
from worker.settings import Settings
from worker.store import open_store
open_store(Settings(store="s3://images"))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert "BadSetting: SCREENING_STORE names an object store, which needs the extra `s3`: `pip install" in done.stderr
