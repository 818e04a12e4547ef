"""Stands in for `python:3.12-slim-trixie` where no image registry is reached: Debian as debootstrap makes it, the few
packages that the real one adds, and a CPython 3.12 of this machine under /usr/local.

It holds no package that the real image lacks, so a program that lacks a library there lacks it here. Bytes and patch
versions of the real image are not proven by it.
"""

import shutil
import subprocess
from pathlib import Path

from tests.images.engine import Engine

#: What the official image has beside a minimal Debian: its own three, and the libraries of CPython's extension modules.
PACKAGES = (
    "ca-certificates", "netbase", "tzdata",
    "libbz2-1.0", "libdb5.3t64", "libffi8", "libgdbm6t64", "liblzma5", "libncursesw6", "libreadline8t64",
    "libsqlite3-0", "libssl3t64", "libuuid1", "zlib1g",
)  # fmt: skip

#: Extension modules that need them: the base is refused where one cannot be imported.
MODULES = "bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib, venv, ensurepip"

#: The official image has neither: they would hide what an image must bring itself.
NOT_COPIED = ("site-packages", "test", "config-3.12-*", "__pycache__", "idlelib", "tkinter", "turtledemo")


def make(engine: Engine, tag: str, interpreter: str) -> str:
    """Make the base and name it `tag`; returns what it is made of. `interpreter` is a CPython 3.12."""
    suite = tag.rsplit("-", 1)[1]
    root = engine.folder / "base"
    if not (root / "root").is_dir():
        bootstrap(root, suite)
        copy_python(root / "root", interpreter)
        (root / "Dockerfile").write_text(
            "FROM scratch\n"
            "COPY root /\n"
            "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\n"
            f"RUN ldconfig && python -c 'import {MODULES}'\n",
            encoding="utf-8",
        )
    engine.build(root / "Dockerfile", tag, root)
    told = engine.shell(tag, "cat /etc/debian_version; python --version; dpkg-query --show | wc -l")
    debian, python, packages = told.stdout.split("\n")[:3]
    return f"debootstrap {suite} (minbase, {len(PACKAGES)} packages named): Debian {debian}, {packages}; {python}"


def bootstrap(folder: Path, suite: str) -> None:
    """A minimal Debian in `folder`/root, from the package mirror that debootstrap knows."""
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(new)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit(f"debootstrap {suite}:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")
    shutil.rmtree(new / "var/cache/apt/archives", ignore_errors=True)
    new.rename(folder / "root")


def copy_python(root: Path, interpreter: str) -> None:
    """The interpreter and its standard library to /usr/local, without any package."""
    asked = "import sys; print(sys.base_prefix, '%d.%d' % sys.version_info[:2])"
    prefix, version = subprocess.check_output([interpreter, "-c", asked], text=True).split()
    if version != "3.12":
        raise SystemExit(f"{interpreter} is Python {version}; the images are of 3.12: name one with --interpreter")
    local = root / "usr/local"
    library = local / f"lib/python{version}"
    shutil.copytree(
        f"{prefix}/lib/python{version}", library, symlinks=True, dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(*NOT_COPIED),
    )  # fmt: skip
    (library / "site-packages").mkdir()
    for shared in Path(prefix, "lib").glob(f"libpython{version}.so*"):
        shutil.copy2(shared, local / "lib", follow_symlinks=False)
    shutil.copy2(f"{prefix}/bin/python{version}", local / "bin")
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(f"python{version}")
