"""Assign patients to splits. All images of a patient are in one split.

Patients, persons named by a Kermany file name and byte-identical sources are joined into groups. Whole groups are
assigned, by class, in an order that only the seed decides.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainer.data.folders import PERSON
from trainer.data.manifest import LABELS, LEFT_OUT, TRAIN_ONLY, UNREADABLE, Manifest, Sample
from worker.errors import BadData

#: Share of the images that each split gets.
SHARES = {"train": 0.80, "validation": 0.08, "test": 0.12}


def limit(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """About `count` of the samples, half of each class where there are enough, by patients in the seed's order.

    Of the last patient of a class it may take only some of the images; the others are in no split.
    """
    chosen: list[Sample] = []
    ordered = sorted(samples, key=lambda s: (shuffle_key(seed, s.patient), s.path))
    for label in (0, 1):
        chosen += [sample for sample in ordered if sample.label == label][: max(1, count // 2)]
    return tuple(sorted(chosen, key=lambda s: s.path))


def split(samples: Sequence[Sample], seed: int, left_out: Iterable[Sample] = (), keeps_stated: bool = True) -> Manifest:
    """Assign the samples to train, validation and test (SHARES), by class and subtype, in whole groups.

    Splits that folders or a CSV state are kept unless `keeps_stated` is False; a split that they lack is taken from
    their training images, never from those for training only. Every group that shares a patient, a person or a source
    with `left_out` goes to the split of that name. Raises BadData when a split would lack a class.
    """
    if not keeps_stated:
        samples = [replace(s, split="") if s.split != TRAIN_ONLY else s for s in samples]
    members, assigned = _grouped(samples, tuple(left_out))
    stated = {sample.split for inside in members.values() for sample in inside}
    lacking = [name for name in ("test", "validation") if name not in stated]
    undecided: dict[str, list[Sample]] = defaultdict(list)  # group -> images that a split that is lacking may take
    for group, inside in members.items():
        for sample in inside:
            if sample.split in ("", "train"):
                undecided[group].append(sample)
            else:
                assigned.append(replace(sample, split="train") if sample.split == TRAIN_ONLY else sample)
    for groups in _strata(undecided, seed):
        total = sum(map(len, groups))
        assigned += _assign(groups, {name: SHARES[name] * total for name in lacking})
    return _manifest(assigned, seed)


def folds(samples: Sequence[Sample], count: int, seed: int, left_out: Iterable[Sample] = ()) -> list[Manifest]:
    """`count` manifests whose test splits together hold every sample once; by class and subtype, in whole groups.

    Each manifest's validation split gets its share of the rest. `left_out` is left out of all. Raises BadData when a
    split would lack a class, or when images are for training only.
    """
    if any(sample.split == TRAIN_ONLY for sample in samples):
        raise BadData(f"images whose split is {TRAIN_ONLY} are never tested on: leave them out of a fit over folds")
    members, outside = _grouped([replace(sample, split="") for sample in samples], tuple(left_out))
    strata = _strata(members, seed)
    manifests = []
    for fold, test in enumerate(_dealt(strata, count)):
        tested = {id(group) for group in test}
        assigned = outside + [replace(s, split="test") for group in test for s in group]
        for groups in strata:
            rest = sorted(
                (group for group in groups if id(group) not in tested),
                key=lambda group: shuffle_key(seed + fold, group[0].group),
            )
            assigned += _assign(rest, {"validation": SHARES["validation"] * sum(map(len, groups))})
        manifests.append(_manifest(assigned, seed))
    return manifests


def _dealt(strata: Sequence[Sequence[Sequence[Sample]]], count: int) -> list[list[Sequence[Sample]]]:
    """The groups on `count` heaps: each goes to the heap that has the fewest images of its stratum."""
    heaps: list[list[Sequence[Sample]]] = [[] for _ in range(count)]
    for groups in strata:
        sizes = [0] * count
        for group in groups:
            smallest = sizes.index(min(sizes))
            heaps[smallest].append(group)
            sizes[smallest] += len(group)
    return heaps


def held_out(manifest: Manifest, groups: Iterable[str]) -> Manifest:
    """The manifest with these groups moved to the test split; raises BadData as `split` does."""
    moving = set(groups)
    moved = [replace(s, split="test") if s.group in moving and s.split in SHARES else s for s in manifest.samples]
    return _manifest(moved, manifest.seed)


def without(manifest: Manifest, paths: Iterable[str]) -> Manifest:
    """The manifest with the samples at `paths` moved to the split `unreadable`; raises BadData as `split` does."""
    gone = set(paths)
    moved = [replace(s, split=UNREADABLE) if s.path in gone else s for s in manifest.samples]
    return _manifest(moved, manifest.seed)


def _grouped(samples: Sequence[Sample], left_out: Sequence[Sample]) -> tuple[dict[str, list[Sample]], list[Sample]]:
    """(group -> its samples, each with its group's name; the samples of groups that are left out)."""
    names = _groups((*samples, *left_out))
    excluded = {names[key] for sample in left_out for key in keys_of(sample)}
    members: dict[str, list[Sample]] = defaultdict(list)
    outside = []
    for sample in samples:
        group = names[keys_of(sample)[0]]
        if group in excluded:
            outside.append(replace(sample, group=group, split=LEFT_OUT))
        else:
            members[group].append(replace(sample, group=group))
    return members, outside


def _strata(members: dict[str, list[Sample]], seed: int) -> list[list[Sequence[Sample]]]:
    """The groups by the subtypes they hold, in the seed's order, without empty groups."""
    strata: dict[str, list[str]] = defaultdict(list)
    for group, inside in members.items():
        if inside:
            strata["+".join(sorted({s.subtype for s in inside}))].append(group)
    return [[members[g] for g in sorted(strata[name], key=lambda g: shuffle_key(seed, g))] for name in sorted(strata)]


def _manifest(assigned: Sequence[Sample], seed: int) -> Manifest:
    manifest = Manifest(tuple(sorted(assigned, key=lambda s: s.path)), seed)
    _require_both_classes(manifest)
    return manifest


def keys_of(sample: Sample) -> list[str]:
    """Keys that a sample shares with others of its group; the patient comes first."""
    # the data set does not say whether person 1000 of bacteria is person 1000 of virus: they are kept together
    keys = [f"patient:{sample.patient}"]
    if sample.source_sha256:
        keys.append(f"source:{sample.source_sha256}")
    if person := PERSON.match(sample.path.rsplit("/", 1)[-1]):
        keys.append(f"person:{person[1]}")
    return keys


def _groups(samples: Iterable[Sample]) -> dict[str, str]:
    """Key -> name of its group: the smallest patient key that any chain of samples connects it with.

    By union-find: each key points to a parent, and the key that is its own parent names the group.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]  # shorten the way for the next time
            key = parent[key]
        return key

    for sample in samples:
        first, *rest = keys_of(sample)
        root(first)  # also where it has no other key
        for key in rest:
            low, high = sorted((root(first), root(key)))
            parent[high] = low  # "patient:" sorts before "person:" and "source:"
    return {key: root(key).removeprefix("patient:") for key in list(parent)}


def shuffle_key(seed: int, group: str) -> str:
    """Sort key that orders groups at random, in an order that does not depend on the other groups."""
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()


def _assign(groups: Sequence[Sequence[Sample]], quota: dict[str, float]) -> list[Sample]:
    """Fill each split of `quota`, in its order, up to its number of images; the rest goes to train.

    A group goes into the first split in which at least half of it still fits, so that large groups exceed a quota by
    half of their images at most.
    """
    quota = dict(quota)
    assigned: list[Sample] = []
    for group in groups:
        name = next((name for name, left in quota.items() if left >= len(group) / 2), "train")
        if name != "train":
            quota[name] -= len(group)
        assigned += [replace(sample, split=name) for sample in group]
    return assigned


def _require_both_classes(manifest: Manifest) -> None:
    for name in SHARES:
        present = {sample.label for sample in manifest.of(name)}
        for label_name, label in list(LABELS.items())[:2]:
            if label not in present:
                raise BadData(f"the {name} split holds no {label_name!r} image: more patients of that class are needed")
