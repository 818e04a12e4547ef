"""An S3 server for tests: moto, served over HTTP. It keeps its buckets while it is stopped."""

from functools import cached_property
from typing import Any

from aiobotocore.session import AioSession
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from worker.store.bucket import BucketStore

HOST = "127.0.0.1"
ACCESS = {"key": "test", "secret": "test"}


class ObjectStore:
    """The server, which a test stops and starts as an outage does; it keeps its port."""

    def __init__(self) -> None:
        self._port = 0
        self._session = AioSession()  # botocore's tables are read once
        self.start()

    def start(self) -> None:
        """Serve."""
        self._server = ThreadedMotoServer(HOST, self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Refuse connections."""
        self._server.stop()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://{HOST}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a program there."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS["key"],
            "AWS_SECRET_ACCESS_KEY": ACCESS["secret"],
        }

    @cached_property
    def files(self) -> Any:
        """The server as anybody's S3 client sees it."""
        return S3FileSystem(**ACCESS, endpoint_url=self.url, skip_instance_cache=True, use_listings_cache=False)

    def store(self, bucket: str, **changes: Any) -> BucketStore:
        """A store in a bucket."""
        return BucketStore(
            f"s3://{bucket}/house", **{**ACCESS, "endpoint_url": self.url, "session": self._session, **changes}
        )
