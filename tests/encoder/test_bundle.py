import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.bundle import FILES, load_bundle, save_bundle
from protos.errors import InvalidInput, NotReady, VersionMismatch
from tests.encoder.tiny import CONFIG, make_bundle


@pytest.fixture
def folder(bundle_folder, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_folder, copy)
    return copy


def test_a_bundle_comes_back_as_it_was(folder):
    made, loaded = make_bundle(), load_bundle(folder)

    assert loaded.config == made.config
    assert loaded.metrics == made.metrics
    assert list(loaded.catalogue.texts) == list(made.catalogue.texts)
    np.testing.assert_array_equal(loaded.catalogue.codes, made.catalogue.codes)
    for name, tensor in made.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor)


def test_versions_are_hashes_of_the_content(tmp_path):
    first = save_bundle(make_bundle(), tmp_path / "a")
    again = save_bundle(make_bundle(), tmp_path / "b")
    other = save_bundle(make_bundle(seed=1), tmp_path / "c")

    assert first == again != other
    assert len(int(load_bundle(tmp_path / "a").codebook_version, 16).to_bytes(8, "big")) == 8


def test_a_new_bundle_replaces_the_old_one_whole(folder):
    version = save_bundle(make_bundle(seed=1), folder)

    assert load_bundle(folder).model_version == version
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thesis.txt", "years of work"),
        ("config.json", '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'),
        ("config.json", '{"format": 1'),
        ("config.json", "[]"),
    ],
)
def test_training_never_overwrites_a_folder_of_something_else(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(InvalidInput, match=r"is no model bundle, .* choose another --out"):
        save_bundle(make_bundle(), tmp_path)
    assert (tmp_path / name).read_text() == text


def test_training_never_overwrites_a_file(tmp_path):
    (tmp_path / "bundle").write_text("years of work")

    with pytest.raises(InvalidInput, match="choose another --out"):
        save_bundle(make_bundle(), tmp_path / "bundle")


def test_no_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(NotReady, match="freshet train"):
        load_bundle(tmp_path / "nothing")


@pytest.mark.parametrize("name", [*FILES, "metrics.json"])
def test_a_half_written_bundle_is_never_loaded(folder, name):
    (folder / name).unlink()

    with pytest.raises(NotReady, match=name):
        load_bundle(folder)


@pytest.mark.parametrize("name", [*FILES, "metrics.json"])
def test_a_damaged_file_is_named(folder, name):
    blob = bytearray((folder / name).read_bytes())
    blob[len(blob) // 2] ^= 0xFF
    (folder / name).write_bytes(blob)

    with pytest.raises(NotReady, match=f"{name} is damaged"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"architectures": ["LlamaForCausalLM"]}'])
def test_a_foreign_folder_is_no_bundle(folder, text):
    (folder / "config.json").write_text(text)

    with pytest.raises(NotReady):
        load_bundle(folder)


def test_another_format_says_who_can_read_it(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 2}))

    with pytest.raises(VersionMismatch, match="has format 2, this version reads 1"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "said",
    [
        {"recent_size": 6},
        {"dim": 8},
        {"no_such_size": 1},
        {"model_version": "0123456789abcdef"},
        {"codebook_version": "0123456789abcdef"},
    ],
)
def test_a_config_that_says_something_else_is_damaged(folder, said):
    config = json.loads((folder / "config.json").read_text())
    where = config if said.keys() <= config.keys() else config["model"]
    where |= said
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(NotReady, match=r"config\.json is damaged"):
        load_bundle(folder)


def test_sizes_that_do_not_fit_the_weights_are_one_clear_error(tmp_path):
    save_bundle(replace(make_bundle(), config=replace(CONFIG, dim=8)), tmp_path / "bundle")

    with pytest.raises(NotReady, match="cannot be used"):
        load_bundle(tmp_path / "bundle")


def test_metrics_are_an_object(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["files"]["metrics.json"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text("[]")

    with pytest.raises(NotReady, match=r"metrics\.json is no JSON object"):
        load_bundle(folder)


def test_a_bundle_from_when_metrics_had_no_hash_is_loaded(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["files"]["metrics.json"]
    (folder / "config.json").write_text(json.dumps(config))

    assert load_bundle(folder).metrics == {"quick": True}


def test_a_config_of_an_llm_with_many_labels_is_the_same_when_read(tmp_path):
    labels = {"id2label": {n: f"LABEL_{n}" for n in range(12)}}
    made = make_bundle()

    save_bundle(replace(made, llm_config={**made.llm_config, **labels}), tmp_path / "bundle")

    assert load_bundle(tmp_path / "bundle").llm_config["id2label"]["11"] == "LABEL_11"


class DiskFull(OSError):
    pass


@pytest.mark.parametrize("dies_at", ["writing", "renaming"])
def test_a_save_that_fails_leaves_the_bundle_before_it(folder, monkeypatch, dies_at):
    old = load_bundle(folder).model_version
    rename = Path.rename

    def fail(*_):
        raise DiskFull

    def renamed(path, target):
        return fail() if path.name == ".bundle.new" else rename(path, target)

    if dies_at == "writing":
        monkeypatch.setattr("os.fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(DiskFull):
        save_bundle(make_bundle(seed=1), folder)

    assert load_bundle(folder).model_version == old
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_save_that_is_killed_between_its_renames_leaves_the_bundle_before_it(folder):
    old = load_bundle(folder).model_version
    folder.rename(folder.with_name(".bundle.old"))
    (folder.with_name(".bundle.new")).mkdir()

    assert load_bundle(folder).model_version == old
    new = save_bundle(make_bundle(seed=1), folder)
    assert load_bundle(folder).model_version == new
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_killed_saves_left_is_cleared(folder):
    for name in (".bundle.old", ".bundle.new"):
        folder.with_name(name).mkdir()
        (folder.with_name(name) / "model.safetensors").write_bytes(b"half")

    save_bundle(make_bundle(seed=1), folder)

    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
