"""Settings of the stream worker: FRESHET_STREAM_... in the environment.

What other processes read too (Kafka's address, the encoder's, the state folder) stands in
infra/settings.py.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from infra.settings import Port, settings_config


class StreamSettings(BaseSettings):
    """Frozen; built once in main()."""

    model_config = settings_config("FRESHET_STREAM_")

    instance: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")] = "worker-0"
    """Names this worker to Kafka (static membership) and its folder under <state>/stream. It comes
    back under the same name within `session_timeout_s` to its own partitions, without a rebalance.
    Two workers need two names."""
    metrics_port: Port = 9102
    session_timeout_s: Annotated[float, Field(ge=6, le=40)] = 8.0
    """How long the group waits for a worker that is gone. Kafka's own minimum is 6 s."""
    checkpoint_interval_s: Annotated[float, Field(gt=0, le=10)] = 0.5
    checkpoint_events: Annotated[int, Field(ge=1)] = 5_000
    """A checkpoint comes early after this many events; four times as many stop the fold."""
    cached_users: Annotated[int, Field(ge=1)] = 5_000
    """Heads kept in memory, a partition; about 10 KB each."""
    requests_in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    """Refresh calls at a time, up to 32 users each."""
    light_above: Annotated[int, Field(ge=1)] = 2_000
    """With more users waiting than this, those without an open feed get the light pass only."""
    trending_interval_s: Annotated[float, Field(gt=0)] = 3.0


def worker_folder(state: Path, instance: str) -> Path:
    """Return where a worker keeps its RocksDB."""
    return state / "stream" / instance
