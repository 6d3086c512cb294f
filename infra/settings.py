"""Settings that more than one process reads, and the rule for all of them.

Each service has one frozen pydantic-settings class with the prefix FRESHET_<PACKAGE>_, built once
in main().
pydantic's extra="forbid" does not see a misspelt variable; `refuse_unknown_environment` does.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from protos.errors import InvalidInput

Port = Annotated[int, Field(ge=0, le=65535)]
"""0 lets the system choose."""


def settings_config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(env_prefix=prefix, frozen=True, extra="forbid")


class SharedSettings(BaseSettings):
    """What every process may need."""

    model_config = settings_config("FRESHET_")

    kafka_bootstrap: str = "127.0.0.1:9092"
    milvus_uri: str = "http://127.0.0.1:19530"
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] = "rec"
    """Topics are called <prefix>.events and so on; two Freshets on one Kafka have two prefixes."""
    encoder: str = "127.0.0.1:7052"
    """Addresses of the encoder workers, with commas between them."""
    state: Path = Path(".freshet")
    """The folder under which everything local lives."""
    n_partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Partitions of rec.events and the topics that go with it; fixed once the topics exist."""
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = "console"
    log_level: str = "info"

    @property
    def encoders(self) -> Sequence[str]:
        return [address.strip() for address in self.encoder.split(",") if address.strip()]


def describe(error: ValidationError) -> str:
    """Return what is wrong with the settings, field by field, in one sentence."""
    wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return f"{error.title} cannot be read from the environment: {'; '.join(wrong)}"


_SHARED = {f"FRESHET_{name}".upper() for name in SharedSettings.model_fields}
# Read by the command line and the tests, not by services.
_TOOLS = {"FRESHET_DATA", "FRESHET_GATEWAY", "FRESHET_RETRIEVAL", "FRESHET_WEB", "FRESHET_STATE_ID"}


def refuse_unknown_environment(*classes: type[BaseSettings]) -> None:
    """Raise InvalidInput for a variable with a service's prefix that the service does not read.

    Only the prefixes of `classes` are looked at: processes on one host share an environment.
    """
    for settings in classes:
        prefix = str(settings.model_config["env_prefix"])
        known = {f"{prefix}{name}".upper() for name in settings.model_fields}
        _refuse(prefix, known | _SHARED | _TOOLS)


def hint(name: str, known: Sequence[str]) -> str:
    """Return what a message says of a name that is none of the known ones."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _refuse(prefix: str, known: Iterable[str]) -> None:
    known = sorted(known)
    for name in os.environ:
        if name.startswith(prefix) and name not in known:
            raise InvalidInput(f"unknown setting {name}; {hint(name, known)}")
