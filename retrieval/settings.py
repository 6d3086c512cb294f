"""Settings of the two processes of this package."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from infra.settings import Port, settings_config
from retrieval.queries import MAX_SEEN_DAYS


class RetrievalSettings(BaseSettings):
    """retrieval.server"""

    model_config = settings_config("FRESHET_RETRIEVAL_")

    listen: str = "127.0.0.1:7053"
    metrics_port: Port = 9103
    collection_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_]{0,64}$")] = ""
    """Milvus collections are called freshet_<prefix>_<model version>; empty: the topic prefix."""
    index: bool = True
    """Whether this replica writes items to Milvus; one replica is enough."""
    cache_mib: Annotated[int, Field(ge=1, le=65536)] = 256
    """Memory for users and items; what does not fit is read from RocksDB."""
    milvus_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    """At most this long for one search, and never past the caller's deadline."""
    default_deadline_ms: Annotated[int, Field(ge=1, le=60_000)] = 2000
    """For callers that set none."""
    seen_rules: dict[
        str, Literal["never", "allowed"] | Annotated[int, Field(ge=0, le=MAX_SEEN_DAYS)]
    ] = {}
    """What scenarios do with seen items, where the question leaves it open: {"radio": "allowed",
    "shop": 30} lets them come back after 30 days; scenarios that are not named never show one
    again."""
    new_item_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of a feed's places, that new items have at least."""
    new_item_days: Annotated[int, Field(ge=0, le=3650)] = 7
    """How long after its created_at_ms an item is new; 0: none is."""
    page_secret: SecretStr = SecretStr("")
    """Signs page tokens; the same for all replicas. Empty: the name of the Kafka cluster and the
    topic prefix, which keeps tokens of different Freshets apart, but is no secret. A forged token
    lets its maker ask what Recommend would answer anyway."""
    max_in_flight: Annotated[int, Field(ge=1)] = 512
    """Requests at work; more are answered RESOURCE_EXHAUSTED."""
    max_open_feeds: Annotated[int, Field(ge=1)] = 10_000


class WebSettings(BaseSettings):
    """retrieval.web"""

    model_config = settings_config("FRESHET_WEB_")

    listen: str = "127.0.0.1:8080"
    metrics_port: Port = 9104
    tenant: str = "default"
    """Whose users the page shows."""
