"""An earlier run whose weights a new fit starts from. Reads its checkpoint and its split; changes neither."""

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.data.manifest import Manifest, Sample, read_manifest
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.training.checkpoint import DAMAGE, Arrays
from worker.errors import BadSetting

CHECKPOINT, SPLIT = "checkpoint.npz", "split.csv"

#: The arrays of a checkpoint that hold the weights of its best epoch.
BEST = "best_variables/"


@dataclass(frozen=True)
class PreviousRun:
    """The best weights of an earlier run, in the order of Keras' variables, and its training samples."""

    path: Path
    digest: str  #: of the checkpoint file
    variables: Arrays
    trained_on: tuple[Sample, ...]  #: empty where the run left no split.csv

    def start_of(self, recipe: Recipe) -> Recipe:
        """The recipe whose network starts from these weights; card and run fingerprint name them by digest."""

        def build(start: Start) -> Network:
            network = recipe.build(replace(start, weights=RANDOM))
            self.load_into(network)
            return network

        return recipe.varied(f"from {self.digest[:12]}", build=build)

    def load_into(self, network: Network) -> None:
        """Load the weights into a network; raises BadSetting when they belong to another one."""
        wanted = [tuple(variable.shape) for variable in network.variables]
        if wanted != [array.shape for array in self.variables]:
            raise BadSetting("its weights belong to another network: give the recipe and backbone of that run").about(
                str(self.path)
            )
        for variable, array in zip(network.variables, self.variables, strict=True):
            variable.assign(array)

    def leaks_into(self, manifest: Manifest) -> list[str]:
        """A warning for each held-out split with patients or files that the earlier run was trained on."""
        patients = {sample.patient for sample in self.trained_on}
        sources = {sample.source_sha256 for sample in self.trained_on if sample.source_sha256}
        warnings = []
        for name in ("validation", "test"):
            seen = sum(s.patient in patients or s.source_sha256 in sources for s in manifest.of(name))
            if seen:
                warnings.append(
                    f"{seen} images of the {name} split were used to train the earlier run: its result is too good"
                )
        return warnings


def read_previous(path: Path) -> PreviousRun:
    """The run whose folder, checkpoint or model file is `path`; raises BadSetting where there is no checkpoint."""
    folder = path if path.is_dir() else path.parent
    checkpoint = folder / CHECKPOINT
    try:
        content = checkpoint.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            variables = [stored[key] for key in sorted(stored.files) if key.startswith(BEST)]
    except FileNotFoundError as error:
        raise BadSetting(f"is not a run folder: {CHECKPOINT} is missing; give the folder of a `trainer fit`").about(
            str(path)
        ) from error
    except DAMAGE as error:
        raise BadSetting(f"cannot be read ({error})").about(str(checkpoint)) from error
    split = folder / SPLIT
    trained_on = read_manifest(split).of("train") if split.is_file() else ()
    return PreviousRun(checkpoint, hashlib.sha256(content).hexdigest(), variables, trained_on)
