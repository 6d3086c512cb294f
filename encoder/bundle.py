"""The model bundle: one folder that holds all a worker needs, and says what it is.

    config.json           format, versions, sizes, the LLM's config, and a hash of every other file
    model.safetensors     weights of encoder/model.py
    codebook.safetensors  centres and magnitudes; "coder.*": what embeds items for this codebook
    items.safetensors     embeddings (N, D) f32 and codes (N, Q) u8 of the catalogue
    items.parquet         item_id, text
    tokenizer.json        format of the tokenizers library
    metrics.json          how good it is, and how that was measured

A codebook outlives models: new items must get codes from the encoder that the codebook was fitted
with, so that encoder travels with it. Both versions are hashes of content.

A bundle `b` is written into `.b.new` and renamed; the one before it stands in `.b.old` meanwhile,
where `load_bundle` finds it if the writer was killed between the two renames.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer

from encoder.codebook import Codebook, Codes, Floats
from encoder.config import ModelConfig
from encoder.items import ItemTower
from encoder.model import Recommender
from protos.errors import InvalidInput, NotReady, VersionMismatch

FORMAT = 1
OUR_KEYS = frozenset({"format", "files"})
"""Of config.json; without them it is somebody else's."""
CODER = "coder."
FILES = (
    "model.safetensors",
    "codebook.safetensors",
    "items.safetensors",
    "items.parquet",
    "tokenizer.json",
)
"""What the model's version is a hash of, beside the sizes."""
METRICS = "metrics.json"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items that the model was trained on; rows are those of its item vectors."""

    item_ids: Sequence[str]
    texts: Sequence[str]
    embeddings: Floats  # (N, D), unit length: what retrieval searches
    codes: Codes  # (N, Q)


@dataclass(frozen=True, slots=True)
class Bundle:
    config: ModelConfig
    llm_config: Mapping[str, object]
    model: Recommender
    codebook: Codebook
    coder: ItemTower
    tokenizer: Tokenizer
    catalogue: Catalogue
    metrics: Mapping[str, object]
    model_version: str = ""
    codebook_version: str = ""
    """Both are set by `load_bundle`; `save_bundle` computes them from the content."""


def save_bundle(bundle: Bundle, folder: Path) -> str:
    """Write a bundle in place of what is at `folder`; return its model version.

    Raises InvalidInput when `folder` holds something else than a bundle.
    """
    refuse_foreign_folder(folder)
    blobs = _blobs(bundle)
    # As they will be read: in JSON all keys are texts.
    sizes = json.loads(
        json.dumps({"model": bundle.config.to_dict(), "llm": dict(bundle.llm_config)})
    )
    versions = _versions(sizes, blobs)
    blobs[METRICS] = json.dumps(dict(bundle.metrics), indent=1).encode()
    files = {name: _hash(blob) for name, blob in blobs.items()}
    config = {"format": FORMAT, **versions, **sizes, "files": files}
    blobs["config.json"] = json.dumps(config, indent=1).encode()
    _replace_folder(folder, blobs)
    return versions["model_version"]


def refuse_foreign_folder(folder: Path) -> None:
    """Raise InvalidInput when something else than a bundle is there: it would be replaced.

    Checkpoints of transformers' have a config.json too, so it is the keys in it that count.
    """
    is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if is_taken and not _is_ours(folder / "config.json"):
        raise InvalidInput(
            f"{folder} is no model bundle, so it is not replaced; choose another --out, or remove "
            "it yourself"
        )


def _is_ours(config_file: Path) -> bool:
    try:
        config = json.loads(config_file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.keys() >= OUR_KEYS


def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Read a bundle, checking every file.

    Raises:
        NotReady: there is none, or it is incomplete or damaged.
        VersionMismatch: it has another format version.
    """
    if not folder.exists() and _old(folder).exists():
        folder = _old(folder)
    config = _read_config(folder)
    blobs = {name: _checked_blob(folder, name, config) for name in (*FILES, METRICS)}
    versions = _versions({name: config.get(name) for name in ("model", "llm")}, blobs)
    if any(config.get(name) != version for name, version in versions.items()):
        raise NotReady(f"model bundle {folder}: config.json is damaged; run: freshet train")
    try:
        return _build(config, blobs, device)
    except (
        SafetensorError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        InvalidInput,
        pa.ArrowException,
    ) as error:
        raise NotReady(
            f"model bundle {folder} cannot be used ({error}); run: freshet train"
        ) from error


def _blobs(bundle: Bundle) -> dict[str, bytes]:
    catalogue = bundle.catalogue
    codebook = {
        "centres": torch.from_numpy(bundle.codebook.centres),
        "magnitudes": torch.from_numpy(bundle.codebook.magnitudes),
    }
    coder = {f"{CODER}{name}": tensor for name, tensor in bundle.coder.state_dict().items()}
    items = {
        "embeddings": torch.from_numpy(catalogue.embeddings),
        "codes": torch.from_numpy(catalogue.codes),
    }
    table = pa.table({"item_id": list(catalogue.item_ids), "text": list(catalogue.texts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return {
        "model.safetensors": _tensor_bytes(bundle.model.state_dict()),
        "codebook.safetensors": _tensor_bytes(codebook | coder),
        "items.safetensors": _tensor_bytes(items),
        "items.parquet": sink.getvalue().to_pybytes(),
        "tokenizer.json": bundle.tokenizer.to_str().encode(),
    }


def _tensor_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    ready = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    blob: bytes = save_tensors(ready)
    return blob


def _hash(*blobs: bytes) -> str:
    digest = xxhash.xxh64()
    for blob in blobs:
        digest.update(len(blob).to_bytes(8, "little"))
        digest.update(blob)
    return digest.hexdigest()


def _versions(sizes: Mapping[str, object], blobs: Mapping[str, bytes]) -> dict[str, str]:
    """Return both versions, by their names in config.json."""
    described = json.dumps(sizes, sort_keys=True).encode()
    return {
        "model_version": _hash(described, *(blobs[name] for name in FILES)),
        "codebook_version": _hash(blobs["codebook.safetensors"], blobs["tokenizer.json"]),
    }


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _replace_folder(folder: Path, blobs: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = folder.with_name(f".{folder.name}.new"), _old(folder)
    shutil.rmtree(fresh, ignore_errors=True)  # of a writer that was killed
    fresh.mkdir()
    try:
        for name, blob in blobs.items():
            with (fresh / name).open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if not folder.exists() and old.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read_config(folder: Path) -> Mapping[str, object]:
    path = folder / "config.json"
    if not path.is_file():
        raise NotReady(f"no model bundle at {folder}; run: freshet train ml-100k --out {folder}")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise NotReady(f"{path} is damaged; run: freshet train") from error
    if not isinstance(config, dict) or not config.keys() >= OUR_KEYS:
        raise NotReady(f"{folder} is no Freshet model bundle; give the folder that train wrote")
    if config["format"] != FORMAT:
        raise VersionMismatch(
            f"model bundle {folder} has format {config['format']}, this version reads {FORMAT}; "
            "train anew, or use the version of Freshet that wrote it"
        )
    return config


def _checked_blob(folder: Path, name: str, config: Mapping[str, object]) -> bytes:
    files = config["files"]
    try:
        blob = (folder / name).read_bytes()
    except OSError as error:
        raise NotReady(f"model bundle {folder} lacks {name}; run: freshet train") from error
    known = files.get(name) if isinstance(files, Mapping) else None
    is_older = name == METRICS and known is None  # from when its hash was not written
    if known != _hash(blob) and not is_older:
        raise NotReady(f"model bundle {folder}: {name} is damaged; run: freshet train")
    return blob


def _build(
    config: Mapping[str, object],
    blobs: Mapping[str, bytes],
    device: str,
) -> Bundle:
    sizes, llm_config = config["model"], config["llm"]
    if not isinstance(sizes, dict) or not isinstance(llm_config, dict):
        raise ValueError("config.json has no sizes")
    metrics = json.loads(blobs[METRICS])
    if not isinstance(metrics, dict):
        raise ValueError(f"{METRICS} is no JSON object")
    model_config = ModelConfig(**sizes)
    table = pq.read_table(pa.BufferReader(blobs["items.parquet"]))
    items = load_tensors(blobs["items.safetensors"])
    fitted = load_tensors(blobs["codebook.safetensors"])
    codebook = Codebook(fitted.pop("centres").numpy(), fitted.pop("magnitudes").numpy())
    n_items = table.num_rows
    coder = ItemTower(model_config, llm_config, n_items, model_config.shallow_layers)
    coder.load_state_dict({name.removeprefix(CODER): value for name, value in fitted.items()})
    model = Recommender(model_config, llm_config, codebook, n_items)
    model.load_state_dict(load_tensors(blobs["model.safetensors"]))
    embeddings: Floats = items["embeddings"].numpy().astype(np.float32)
    return Bundle(
        config=model_config,
        llm_config=llm_config,
        model=model.eval().to(device),
        codebook=codebook,
        coder=coder.eval().to(device),
        tokenizer=Tokenizer.from_str(blobs["tokenizer.json"].decode()),
        catalogue=Catalogue(
            table["item_id"].to_pylist(),
            table["text"].to_pylist(),
            embeddings,
            items["codes"].numpy(),
        ),
        metrics=metrics,
        model_version=str(config["model_version"]),
        codebook_version=str(config["codebook_version"]),
    )
