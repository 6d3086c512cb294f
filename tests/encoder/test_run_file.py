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
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path, text, reason):
    with pytest.raises(InvalidInput, match=reason):
        read_run(written(tmp_path, text))


def test_a_missing_file_is_one_clear_error():
    with pytest.raises(InvalidInput, match="no run file"):
        read_run(Path("nowhere.toml"))
