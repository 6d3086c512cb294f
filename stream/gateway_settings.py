"""Settings of the gateway: FRESHET_GATEWAY_... in the environment.

What other processes read too (Kafka's address, the topics) stands in infra/settings.py.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from infra.settings import Port, settings_config


class GatewaySettings(BaseSettings):
    """Frozen; built once in main()."""

    model_config = settings_config("FRESHET_GATEWAY_")

    listen: str = "127.0.0.1:7051"
    metrics_port: Port = 9101
    timeout_s: Annotated[float, Field(ge=0.5, le=60)] = 5.0
    """By then a record is durable or the call fails with UNAVAILABLE; a caller's shorter deadline
    counts too."""
    buffer_bytes: Annotated[int, Field(ge=2**20)] = 32 * 2**20
    """Waiting for Kafka, all calls together; beyond it RESOURCE_EXHAUSTED."""
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 1
    grace_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    """For the calls in flight at SIGTERM."""
