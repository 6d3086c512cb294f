"""Process settings of the encoder worker, read once, in main(), from FRESHET_ENCODER_*."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings

from infra.settings import Port, settings_config


class EncoderSettings(BaseSettings):
    model_config = settings_config("FRESHET_ENCODER_")

    listen: str = "127.0.0.1:7052"
    metrics_port: Port = 9105

    bundle: Path | None = None
    """The model bundle; <state>/bundle when not given."""
    model_sequence: Annotated[int, Field(ge=0)] = 0
    """Counts deployments, rollbacks too. 0: count them in <state>/encoder (one replica only)."""

    device: str = "cpu"
    n_threads: PositiveInt = 1
    """Threads of torch. One leaves the other cores to Kafka, Milvus and the stream."""

    follow_items: bool = True
    """Know the texts of rec.items before serving. Without Kafka, callers send what is asked for."""

    compile: bool = False
    """Compile what nearly every refresh is, an event more: a lone one takes half the time.
    Wants a C++ compiler and, once for a model, a minute or two before the worker serves."""
    compiled_folder: Path | None = None
    """Where what was compiled is kept; <state>/encoder/compiled when not given."""

    max_batch_tokens: PositiveInt = 8192
    max_queue_delay_ms: NonNegativeFloat = 0.0
    """How long the first job of an idle worker waits for company."""
    max_queued_users: PositiveInt = 1024
    max_cached_items: PositiveInt = 200_000
    max_cached_block_bytes: PositiveInt = 256 * 2**20
    max_cached_user_bytes: PositiveInt = 512 * 2**20
    """Keys and values of users' open segments and windows; the default model takes 160 KiB a user.
    All of it is taken at the start where the device is a GPU, else as users come."""
    max_user_idle_s: PositiveFloat = 3600.0
    """How long they are kept without an event of the user."""
    drain_s: NonNegativeFloat = 5.0
