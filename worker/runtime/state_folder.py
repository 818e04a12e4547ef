"""The state folder, which only its owner may read. Imports little, because it is loaded before the queue worker."""

from worker.errors import NoHome
from worker.settings import Settings


def make_home(settings: Settings) -> None:
    """Make the state folder; raises NoHome when it cannot be made or written."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.home / "lock").touch(mode=0o600)
    except OSError as error:
        raise NoHome(
            f"the state folder cannot be written ({error.strerror}): set SCREENING_HOME to a folder you may write to"
        ).about(str(settings.home)) from error
