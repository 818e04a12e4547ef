"""The rows of an index CSV: which belongs to which image file. A row that can be read in two ways is refused, because a
label would be wrong. Knows no labels.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from worker.errors import BadData

#: Columns that an index must have; these and others that count, in which two rows of one file may not differ.
WANTED = ("path", "label")
COUNT = ("label", "patient", "subtype", "split", "view", "age", "source", "source_sha256", "style")


class IndexRows:
    """The rows of an index, found by a file's whole path below the data or by its last two parts."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.by_path: dict[str, dict[str, str]] = {}
        self.by_tail: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in read_rows(index):
            path = row["path"].replace("\\", "/").removeprefix("./")
            first = self.by_path.setdefault(path, row)
            if any(first.get(name) != row.get(name) for name in COUNT):
                raise BadData(f"two rows for {path!r} disagree").about(str(index))
            self.by_tail[_tail(row["path"])].append(row)

    def of(self, path: Path, data: Path) -> dict[str, str] | None:
        """The row of a file of the folder `data`, None when it has none. Raises BadData where two rows disagree."""
        if row := self.by_path.get(path.relative_to(data).as_posix()):
            return row
        rows = self.by_tail.get(_tail(path.as_posix()), [])
        if len({tuple(row.get(name) for name in COUNT) for row in rows}) > 1:
            raise BadData(f"two rows for {_tail(path.as_posix())!r} disagree").about(str(self.index))
        return rows[0] if rows else None


def find_index(data: Path) -> Path | None:
    """The `index.csv` of a folder, in it or in its parent."""
    found = (folder / "index.csv" for folder in (data, data.resolve().parent))
    return next((path for path in found if path.is_file()), None)


def read_rows(index: Path) -> list[dict[str, str]]:
    """The rows of a CSV, a missing cell as empty text; raises BadData, naming the line."""
    if not index.is_file():
        raise BadData("no such index file").about(str(index))
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            return list(_rows(csv.reader((line for line in file if not line.startswith("#")), strict=True), index))
    except UnicodeDecodeError as error:
        raise BadData("is not text in UTF-8: save it as CSV in UTF-8").about(str(index)) from error
    except csv.Error as error:
        raise BadData(f"is no CSV ({error}): look for a quotation mark without its other one").about(
            str(index)
        ) from error


def _rows(cells: Iterator[list[str]], index: Path) -> Iterator[dict[str, str]]:
    names = next(cells, [])
    if missing := sorted(set(WANTED) - set(names)):
        first = ", ".join(names)[:80]
        raise BadData(
            f"lacks the column(s) {', '.join(missing)}: its first line is {first!r}; a comma parts columns"
        ).about(str(index))
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        raise BadData(f"has the column {twice[0]} twice: which one counts?").about(str(index))
    for row in cells:
        if any(row[len(names) :]):
            raise BadData(
                f"the row of {row[0]!r} has more cells than the first line has columns: put a value that holds a comma"
                " between quotation marks"
            ).about(str(index))
        if row:
            yield {name: row[at] if at < len(row) else "" for at, name in enumerate(names) if name}


def _tail(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])
