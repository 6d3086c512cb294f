"""Fetch MovieLens-100K, which comes inside the wheel of a Python package.

RecBole 1.2.1 carries it as atomic files in recbole/dataset_example/ml-100k. So whoever can install
Freshet can have real data by the same way: the wheel is downloaded, nothing of it is installed, two
files are unpacked and checked against their digests. They appear in their folder together or not at
all: they are unpacked beside it, and the folder is then renamed.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from infra.datasets.known import KNOWN
from protos.errors import DependencyDown, InvalidInput, NotReady

REQUIREMENT = "recbole==1.2.1"
FOLDER_IN_WHEEL = "recbole/dataset_example/ml-100k"
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
DOWNLOAD_TIMEOUT_S = 300

OnStep = Callable[[str], None]
"""Told what is being done now."""


class Downloader(Protocol):
    def download(self, requirement: str, into: Path) -> Path:
        """Put the requirement's wheel into a folder and return its path.

        Raises:
            DependencyDown: it could not be had; the message says why and what to do.
        """
        ...


class PackageDownloader:
    """Downloads with the pip of this interpreter, or with a pip that uv provides."""

    def download(self, requirement: str, into: Path) -> Path:
        options = ["--no-deps", "--no-input", "--only-binary=:all:", "--retries=2", "--timeout=15"]
        command = [*_pip(), "download", *options, "--dest", str(into), requirement]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise _not_reached(requirement, f"no end after {DOWNLOAD_TIMEOUT_S} s") from error
        wheels = list(into.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise _not_reached(requirement, _last_line(done.stderr))
        return wheels[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise NotReady("neither pip nor uv is here to download with; install one of them")
    return [uv, "tool", "run", "pip"]


def _not_reached(requirement: str, why: str) -> DependencyDown:
    return DependencyDown(
        f"could not download {requirement} from the package registry ({why}); check the network "
        "and pip's index settings, then run the same command again"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word from pip"


def fetch(
    name: str, data_folder: Path, downloader: Downloader, on_step: OnStep
) -> tuple[Path, bool]:
    """Make a known data set available in `data_folder`; a complete one there is left alone.

    Returns:
        The data set's folder, and whether it was fetched now.

    Raises:
        InvalidInput: this data set cannot be fetched.
        DependencyDown: the registry was not reached, or gave something else.
    """
    if name != "ml-100k":
        how = f"{name}: {KNOWN[name].how_to_get}" if name in KNOWN else f"{name!r} is not known"
        raise InvalidInput(f"only ml-100k can be fetched; {how}")
    target = data_folder / name
    if _is_complete(target):
        return target, False
    data_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=data_folder) as work:
        on_step(f"downloading {REQUIREMENT}")
        wheel = downloader.download(REQUIREMENT, Path(work))
        on_step(f"unpacking {', '.join(SHA256)}")
        fresh = Path(work) / name
        _unpack(wheel, fresh)
        _put(fresh, target)
    return target, True


def _is_complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in SHA256)


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file, digest in SHA256.items():
                content = archive.read(f"{FOLDER_IN_WHEEL}/{file}")
                if hashlib.sha256(content).hexdigest() != digest:
                    raise _other_content(f"{file} has another digest")
                (folder / file).write_bytes(content)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _other_content(str(error)) from error


def _other_content(what: str) -> DependencyDown:
    return DependencyDown(
        f"the registry's {REQUIREMENT} is not the one expected ({what}); use another index"
    )


def _put(fresh: Path, target: Path) -> None:
    if target.exists():  # incomplete, or somebody else's in the meantime
        target.rename(fresh.with_name("replaced"))
    try:
        fresh.rename(target)
    except OSError:
        if not _is_complete(target):  # else another fetch was faster
            raise
