"""What stands around the processes of a chaos run: its servers, disk and clock, and the archive for results."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.archive import Archive
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Disk, PostgresServer, RedisServer, WallClock


@dataclass(frozen=True)
class Surroundings:
    """What the installation needs, and the archive outside it."""

    redis: RedisServer
    postgres: PostgresServer
    proxy: Proxy
    disk: Disk
    clock: WallClock
    archive: Archive


@contextmanager
def surroundings(folder: Path, disk_mib: int) -> Iterator[Surroundings]:
    """Everything running; stopped at the end."""
    with ExitStack() as stack:
        postgres = PostgresServer(folder / "pg")
        stack.callback(postgres.stop)
        redis = RedisServer(folder / "redis.log")
        redis.start()
        stack.callback(redis.stop)
        proxy = Proxy(redis.port)
        stack.callback(proxy.close)
        disk = Disk(folder / "store", disk_mib)
        stack.callback(disk.close)
        archive = Archive()
        archive.start()
        stack.callback(archive.stop)
        yield Surroundings(redis, postgres, proxy, disk, WallClock(folder / "clock"), archive)
