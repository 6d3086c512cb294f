"""Fetching leaves a whole data set or nothing, and does its work once."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from infra.datasets import fetch as fetch_module
from infra.datasets.fetch import FOLDER_IN_WHEEL, PackageDownloader, fetch
from protos.errors import DependencyDown, InvalidInput

CONTENT = {"ml-100k.inter": b"user_id:token\n", "ml-100k.item": b"item_id:token\n"}


class Registry:
    """A downloader whose wheel is made here; without a wheel it is out of reach."""

    def __init__(self, files: dict[str, bytes] | None) -> None:
        self.files = files
        self.n_downloads = 0

    def download(self, requirement: str, into: Path) -> Path:
        self.n_downloads += 1
        if self.files is None:
            raise DependencyDown("not reached")
        wheel = into / "some.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("recbole/__init__.py", "")
            for name, content in self.files.items():
                archive.writestr(f"{FOLDER_IN_WHEEL}/{name}", content)
        return wheel


@pytest.fixture(autouse=True)
def digests(monkeypatch):
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(fetch_module, "SHA256", digests)


def ignore(step: str) -> None:
    pass


def test_fetch_unpacks_the_data_and_nothing_else(tmp_path):
    steps = []

    folder, is_new = fetch("ml-100k", tmp_path / "data", Registry(CONTENT), steps.append)

    assert is_new
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert list((tmp_path / "data").iterdir()) == [folder]
    assert [step.split()[0] for step in steps] == ["downloading", "unpacking"]


def test_fetching_again_downloads_nothing(tmp_path):
    registry = Registry(CONTENT)
    fetch("ml-100k", tmp_path, registry, ignore)

    _, is_new = fetch("ml-100k", tmp_path, registry, ignore)

    assert not is_new
    assert registry.n_downloads == 1


@pytest.mark.parametrize(
    "files",
    [None, {}, CONTENT | {"ml-100k.item": b"other"}, {"ml-100k.inter": b"user_id:token\n"}],
    ids=["unreached", "empty", "changed", "incomplete"],
)
def test_a_failed_fetch_leaves_nothing_behind(tmp_path, files):
    with pytest.raises(DependencyDown):
        fetch("ml-100k", tmp_path, Registry(files), ignore)

    assert list(tmp_path.iterdir()) == []


def test_a_failed_fetch_leaves_what_was_there(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "ml-100k.inter").write_bytes(b"half")

    with pytest.raises(DependencyDown):
        fetch("ml-100k", tmp_path, Registry(None), ignore)

    assert (tmp_path / "ml-100k" / "ml-100k.inter").read_bytes() == b"half"


def test_an_incomplete_folder_is_replaced(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "ml-100k.inter").write_bytes(b"half")

    folder, is_new = fetch("ml-100k", tmp_path, Registry(CONTENT), ignore)

    assert is_new
    assert (folder / "ml-100k.inter").read_bytes() == CONTENT["ml-100k.inter"]


@pytest.mark.parametrize("name", ["ml-1m", "netflix"])
def test_what_cannot_be_fetched_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(InvalidInput, match="only ml-100k can be fetched"):
        fetch(name, tmp_path / "data", Registry(CONTENT), ignore)

    assert not (tmp_path / "data").exists()


def test_a_registry_out_of_reach_is_one_clear_error(tmp_path, monkeypatch):
    failing = [sys.executable, "-c", "import sys; sys.exit('WARNING: retry\\nERROR: no route')"]
    monkeypatch.setattr(fetch_module, "_pip", lambda: failing)

    with pytest.raises(DependencyDown, match=r"\(ERROR: no route\); check the network"):
        PackageDownloader().download("anything==1", tmp_path)
