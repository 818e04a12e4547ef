"""The verbs that print from the ledger: worklist, show, open, quarantine."""

import os
import shutil
import subprocess
from pathlib import Path

import click

from worker.cli import options
from worker.cli.options import as_json, asked_by, study


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000), help="Rows to print.")
@asked_by
@as_json
def worklist(limit: int, by: str, as_json: bool) -> None:
    """Print the unread studies, the first to read on top."""
    from worker.ledger.clocks import now
    from worker.worklist import unread_list

    database, store = options.ledger()
    options.record_view(database, by)
    if unread_list.is_stale(database, now()):  # no sweep may be running
        from worker.ledger.worklist.overdue import advance

        advance(database, now())
    entries = unread_list.entries(database, store, limit)
    if as_json:
        options.print_json([entry.to_json() for entry in entries])
        return
    from worker.cli.worklist_table import print_worklist

    print_worklist(entries, unread_list.count(database), shows_identifiers=options.shows_identifiers())


@click.command()
@study
@asked_by
@as_json
def show(study: str, by: str, as_json: bool) -> None:
    """Print what is known of one study, for people; all its data with --json."""
    from worker.worklist import details

    database, store = options.ledger()
    uid = options.study_uid(database, study)
    options.record_view(database, by, uid)
    kept = details.show(database, store, uid)
    if as_json:
        options.print_json(kept)
        return
    from worker.cli.study_page import print_study

    print_study(kept, shows_identifiers=options.shows_identifiers())


@click.command("open")
@study
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture to this file.")
@asked_by
def open_study(study: str, out: Path | None, by: str) -> None:
    """Show a study's picture: the radiograph, and beside it the heat map. Without a screen, print where it is.

    Without --out the file lies in your runtime or cache folder, and the next call replaces it.
    """
    from contextlib import closing

    from worker.decoding.decoder import Decoder
    from worker.export.picture import draw
    from worker.imaging.limits import Limits

    settings = options.settings()
    database, store = options.ledger()
    uid = options.study_uid(database, study)
    options.record_view(database, by, uid)
    with closing(Decoder.of(settings)) as decoder:
        picture = draw(database, store, uid, decoder, Limits(max_pixel_bytes=settings.max_pixel_bytes))
    path = out or _picture_file()
    path.write_bytes(picture.content)
    click.echo(f"{path}{'' if picture.has_heat_map else ' (without a heat map: `worker show` says why)'}")
    viewer = shutil.which("xdg-open")
    if out is None and viewer and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        subprocess.Popen([viewer, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _picture_file() -> Path:
    """The one file for pictures of this user, in a folder that nobody else may enter."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "chest-screening"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        from worker.errors import BadSetting

        raise BadSetting(f"{folder} cannot be made ({error.strerror}): give --out FILE") from error
    return folder / "picture.png"


@click.command()
@asked_by
@as_json
def quarantine(by: str, as_json: bool) -> None:
    """Print the files that could not be read, and why. The store keeps their bytes."""
    from worker.worklist import quarantined_files

    database, _ = options.ledger()
    options.record_view(database, by)
    files = quarantined_files.quarantine(database)
    if as_json:
        options.print_json([file.to_json() for file in files])
        return
    from worker.cli.tables import print_quarantine

    print_quarantine(files)
