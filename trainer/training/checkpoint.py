"""The state of a fit after its last finished epoch, in one file that is replaced atomically."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.atomic_file import write_atomically
from worker.errors import BadSetting

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """All that a fit needs to continue with the same result; arrays in the order of Keras' variables."""

    fingerprint: str  #: of recipe, data, seed and weights; another run's checkpoint is refused
    variables: Arrays  #: of the model, with the generator of the dropout
    optimizer: Arrays
    best_epoch: int
    best_variables: Arrays
    scores: tuple[float, ...]  #: of every epoch; `schedule.next_step` decides from them

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.scores)


#: What zipfile and numpy raise for a damaged file; RuntimeError for a bit that says "encrypted" or names a compression.
DAMAGE = (ValueError, KeyError, EOFError, RuntimeError, OSError, zipfile.BadZipFile)

_LISTS = ("variables", "optimizer", "best_variables")


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write and fsync beside `path`, then rename over it."""
    plain = {name: value for name, value in vars(checkpoint).items() if name not in _LISTS}
    arrays = {f"{name}/{i:04d}": array for name in _LISTS for i, array in enumerate(getattr(checkpoint, name))}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, plain=np.array(json.dumps(plain)), **arrays)
    write_atomically(content.getvalue(), path)


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint at `path`, or None where there is none.

    Raises BadSetting when it belongs to another run, or is damaged.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:  # a file that may not be read is not damaged
        try:
            with np.load(file, allow_pickle=False) as stored:
                plain = json.loads(str(stored["plain"]))
                lists = {n: [stored[key] for key in sorted(stored.files) if key.startswith(f"{n}/")] for n in _LISTS}
        except DAMAGE as error:
            raise BadSetting(f"is damaged ({error}): put a copy back, or remove it and train anew").about(
                str(path)
            ) from error
    if plain["fingerprint"] != fingerprint:
        raise BadSetting(
            "belongs to a run with other data, recipe, seed, epochs or weights: give another --out, or remove it"
        ).about(str(path))
    return Checkpoint(
        fingerprint=plain["fingerprint"],
        variables=lists["variables"],
        optimizer=lists["optimizer"],
        best_epoch=plain["best_epoch"],
        best_variables=lists["best_variables"],
        scores=tuple(plain["scores"]),
    )
