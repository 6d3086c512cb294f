"""Settings that more than one process reads, and the rule for all of them.

Each service has one frozen pydantic-settings class with the prefix FRESHET_<PACKAGE>_, built once
in main().
pydantic's extra="forbid" does not see a misspelt variable; `refuse_unknown_environment` does.
"""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
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


class DoorSettings(BaseSettings):
    """Who may come in, and how our own clients get in; docs/operations.md says how to make them.

    Paths are of PEM files, but for `api_keys`. Without any of them: no TLS, no keys, loopback only.
    """

    model_config = settings_config("FRESHET_") | {"hide_input_in_errors": True}

    tls_cert: Path | None = None
    """The chain that our servers show; with `tls_key` every one of them speaks TLS alone."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Callers must show a certificate that it signed. Browsers are not asked for one."""
    tls_ca: Path | None = None
    """Whom our clients trust; set, they speak TLS to every server of ours."""
    tls_client_cert: Path | None = None
    """The chain that our clients show, with `tls_client_key`."""
    tls_client_key: Path | None = None
    api_keys: Path | None = None
    """A file of keys (infra/api_keys.py); set, our servers answer nobody without one."""
    api_key: SecretStr | None = None
    """The key that our clients send."""
    insecure: bool = False
    """True: listen beyond loopback, and send keys there, without what is missing above."""

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("give the one line that `freshet keys new` printed")
        return key

    @model_validator(mode="after")
    def _come_together(self) -> "DoorSettings":
        for name, other in (
            ("tls_cert", "tls_key"),
            ("tls_key", "tls_cert"),
            ("tls_client_ca", "tls_cert"),
            ("tls_client_cert", "tls_client_key"),
            ("tls_client_key", "tls_client_cert"),
            ("tls_client_cert", "tls_ca"),
        ):
            if getattr(self, name) and not getattr(self, other):
                raise ValueError(f"FRESHET_{name.upper()} needs FRESHET_{other.upper()} beside it")
        return self

    @property
    def page_scheme(self) -> str:
        return "https" if self.tls_cert else "http"

    @classmethod
    def load(cls) -> "DoorSettings":
        """Read them from the environment. Raises InvalidInput for a misspelt one: what is not read
        would leave a door open."""
        for prefix in ("FRESHET_TLS", "FRESHET_API"):
            _refuse(prefix, _DOORS)
        return cls()


def describe(error: ValidationError) -> str:
    """Return what is wrong with the settings, field by field, in one sentence."""
    wrong = [": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors()]
    return f"{error.title} cannot be read from the environment: {'; '.join(wrong)}"


_SHARED = {f"FRESHET_{name}".upper() for name in SharedSettings.model_fields}
_DOORS = {f"FRESHET_{name}".upper() for name in DoorSettings.model_fields}
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
