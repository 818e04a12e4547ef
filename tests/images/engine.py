"""Podman, with images and containers in a folder of its own: nothing of the machine's other engines is touched."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A build installs 2 GB; a busy machine is slow at it.
LONGEST_S = 3 * 3600.0

#: Without CAP_SYS_RESOURCE the engine may not raise limits, as it would by itself.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")

#: How compose.yaml runs every container of ours; the build's network is not there any more.
HARDENED = (
    *LIMITS, "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--network", "none", "--tmpfs", "/tmp:size=256m,mode=1777", "--memory", "6g", "--pids-limit", "256",
)  # fmt: skip

#: The machine's settings for a package index, given to a build and not part of the image.
WAY_TO_THE_INDEX = (Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/resolv.conf"))


@dataclass(frozen=True)
class Engine:
    """Podman whose images and containers lie in `folder`."""

    folder: Path

    def podman(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman; its standard error is shown where `check` finds a failure."""
        runtime = ["--runtime", "runc"] if shutil.which("runc") else []
        # cgroupfs and a file serve where no systemd runs
        command = ["podman", "--root", self.folder / "images", "--runroot", self.folder / "running",
                   "--cgroup-manager", "cgroupfs", "--events-backend", "file", *runtime, *arguments]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
        if check and ended.returncode != 0:
            raise SystemExit(f"podman {' '.join(map(str, arguments))}\n{ended.stdout[-3000:]}\n{ended.stderr[-6000:]}")
        return ended

    def build(self, dockerfile: Path, tag: str, context: Path, *arguments: str | Path) -> None:
        """Build an image from what is here: a base that is not here is an error, and is never fetched."""
        ignored = Path(f"{dockerfile}.dockerignore")
        lent = [f"--volume={file}:{file}:ro" for file in WAY_TO_THE_INDEX if file.exists()]
        # the format that keeps HEALTHCHECK
        self.podman("build", "--format", "docker", "--pull-never", "--layers=false", "--network", "host", *LIMITS,
                    *lent, *([f"--ignorefile={ignored}"] if ignored.exists() else []), "--tag", tag,
                    "--file", dockerfile, *arguments, context)  # fmt: skip

    def run(self, image: str, *command: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command of an image as compose.yaml runs it: no root, no writing, no capability, no network."""
        return self.podman("run", "--rm", *HARDENED, *options, image, *command, check=False)

    def shell(self, image: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in an image, whatever its entrypoint is."""
        return self.run(image, "-c", script, options=["--entrypoint", "sh"])

    @contextmanager
    def service(self, image: str, options: Sequence[str]) -> Iterator[str]:
        """The image's own command, in the background: the container's name."""
        name = self.podman("run", "--detach", *HARDENED, *options, image).stdout.strip()
        try:
            yield name
        finally:
            self.podman("rm", "--force", "--volumes", name)

    def inspect(self, image: str) -> dict[str, Any]:
        """What the image says of itself."""
        (found,) = json.loads(self.podman("image", "inspect", image).stdout)
        told: dict[str, Any] = found
        return told

    def version(self) -> str:
        """The engine and what runs its containers."""
        runtime = "runc" if shutil.which("runc") else "crun"
        return f"{self.podman('--version').stdout.strip()}, {runtime}"
