from pathlib import Path

import pytest

from encoder.config import ModelConfig
from encoder.recipe import Recipe
from encoder.run_file import read_run
from protos.errors import InvalidInput


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_what_a_file_leaves_out_is_the_default(tmp_path):
    path = written(
        tmp_path, 'data = "ml-1m"\nout = "x"\n[model]\nn_memory = 8\n[recipe]\nepochs = 7\n'
    )

    run = read_run(path)

    assert run.data == "ml-1m"
    assert run.out == tmp_path / "x", "beside the file"
    assert run.model == ModelConfig(n_memory=8)
    assert run.recipe == Recipe(epochs=7)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data = ", "no run file"),
        ("dat = 'x'", "dat is not known; did you mean data?"),
        ("[recipe]\nepoch = 3", r"\[recipe\]: epoch is not known; did you mean epochs?"),
        ("[recipe]\nepochs = 'many'", r"\[recipe\]: epochs: Input should be a valid integer"),
        ("[model]\nn_blocks = 0", "n_blocks is 0, it must be 1 or more"),
        ("model = 3", r"\[model\] must be a table"),
        ("[recipe]\ntower_every = 0", "tower_every is 0, it must be 1 or more"),
        ("[recipe]\nlora_rank = 4", "lora_rank is 4, but there is no llm"),
        (
            "[model]\nn_interests = 6",
            r"n_targets is 8, it must be 2 \* n_interests or more; set n_targets = 12 under \[rec",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path, text, reason):
    with pytest.raises(InvalidInput, match=reason):
        read_run(written(tmp_path, text))


def test_more_interests_are_trained_on_more_targets(tmp_path):
    run = read_run(written(tmp_path, "[model]\nn_interests = 6\n[recipe]\nn_targets = 12\n"))

    assert (run.model.n_interests, run.recipe.n_targets) == (6, 12)


def test_adapters_stand_in_an_llm(tmp_path):
    run = read_run(written(tmp_path, 'llm = "small"\n[recipe]\nlora_rank = 4\n'))

    assert (run.llm, run.recipe.lora_rank) == (tmp_path / "small", 4)


def test_a_missing_file_is_one_clear_error():
    with pytest.raises(InvalidInput, match="no run file"):
        read_run(Path("nowhere.toml"))
