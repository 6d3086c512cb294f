"""Where the parts of a running Freshet are: what the command line, the demo and tests connect to.

Each address is taken from the first that has it: the environment (FRESHET_KAFKA_BOOTSTRAP,
FRESHET_MILVUS_URI, FRESHET_GATEWAY, FRESHET_ENCODER, FRESHET_RETRIEVAL, FRESHET_WEB), the state
folder's stack.json, which `freshet up` writes, the default.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from protos.errors import NotReady

STACK_FILE = "stack.json"
DEFAULT_STATE = Path(".freshet")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses: host:port, and a URL for Milvus."""

    kafka_bootstrap: str = "127.0.0.1:9092"
    milvus_uri: str = "http://127.0.0.1:19530"
    gateway: str = "127.0.0.1:7051"
    encoder: str = "127.0.0.1:7052"
    retrieval: str = "127.0.0.1:7053"
    web: str = "127.0.0.1:8080"

    @classmethod
    def load(cls, state: Path | None = None) -> "Endpoints":
        """Return the addresses for this environment.

        Args:
            state: the state folder; by default FRESHET_STATE, or .freshet in the current folder.
        """
        folder = state or Path(os.environ.get("FRESHET_STATE") or DEFAULT_STATE)
        return cls().updated(_recorded(folder / STACK_FILE)).updated(given(os.environ))

    def updated(self, addresses: Mapping[str, str]) -> "Endpoints":
        """Return these addresses with those of `addresses`, by field name, in their place."""
        return replace(self, **addresses)

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a process to these addresses."""
        return {variable(name): value for name, value in asdict(self).items()}


def variable(name: str) -> str:
    """Return the environment variable of an address, e.g. FRESHET_KAFKA_BOOTSTRAP."""
    return f"FRESHET_{name}".upper()


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses that the environment names, by field name."""
    names = (field.name for field in fields(Endpoints))
    return {name: environment[variable(name)] for name in names if environment.get(variable(name))}


def _recorded(path: Path) -> dict[str, str]:
    try:
        recorded = dict(json.loads(path.read_text())["endpoints"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise NotReady(f"{path} is not readable ({error!r}); run: freshet down") from error
    known = {field.name for field in fields(Endpoints)}
    return {name: str(value) for name, value in recorded.items() if name in known}
