"""Where a data set is: a path, or a known name looked up in four places.

The places, in order: the folder given (`--data`), FRESHET_DATA, <state>/data (what `freshet data
fetch` fills), ../shared/data. In each, a known data set is the folder of its name.
"""

from pathlib import Path

from infra.datasets.known import KNOWN
from infra.settings import SharedSettings
from protos.errors import InvalidInput, NotReady

SHARED_DATA = Path("../shared/data")


class DataSettings(SharedSettings):
    """Where the command line looks for data."""

    data: Path | None = None
    """FRESHET_DATA: a folder of data sets."""


def fetched_folder() -> Path:
    """Return the folder that fetched data sets are put into."""
    return DataSettings().state / "data"


def data_folders(data_dir: Path | None = None) -> list[Path]:
    """Return the folders that may hold known data sets, in the order of the search."""
    named = [folder for folder in (data_dir, DataSettings().data) if folder is not None]
    return [*named, fetched_folder(), SHARED_DATA]


def find_known(name: str, data_dir: Path | None = None) -> Path | None:
    """Return the folder of a known data set, or None where there is none."""
    folders = (folder / name for folder in data_folders(data_dir))
    return next((folder for folder in folders if folder.is_dir()), None)


def locate(spec: str, data_dir: Path | None = None) -> Path:
    """Return the folder or file that `spec` means: a known name first, else a path.

    Raises:
        NotReady: the data set is known but not here; the message says how to get it.
        InvalidInput: neither a known name nor a path.
    """
    if spec in KNOWN:
        found = find_known(spec, data_dir)
        if found is None:
            places = ", ".join(str(folder / spec) for folder in data_folders(data_dir))
            raise NotReady(f"{spec} is not here (looked at {places}); {KNOWN[spec].how_to_get}")
        return found
    path = Path(spec).expanduser()
    if not path.exists():
        raise InvalidInput(
            f"{spec!r} is neither a known data set ({', '.join(KNOWN)}) nor an existing path; "
            "give one of these names, or a folder with events.parquet, events.csv or events.jsonl"
        )
    return path
