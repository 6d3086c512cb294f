"""A tiny bundle with random weights, made in well under a second (tests/encoder/tiny.py)."""

from pathlib import Path

import pytest
import torch

from encoder.bundle import Bundle, load_bundle, save_bundle
from encoder.engine import Engine
from tests.encoder.running import Running
from tests.encoder.tiny import make_bundle


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors gain nothing from a second thread, and lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "bundle"
    save_bundle(make_bundle(), folder)
    return folder


@pytest.fixture(scope="session")
def bundle(bundle_folder) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="session")
def engine(bundle) -> Engine:
    return Engine(bundle)


@pytest.fixture
async def running(bundle):
    async with Running(bundle) as running:
        yield running
