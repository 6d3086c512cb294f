import pytest

from encoder.config import ModelConfig
from encoder.recipe import Recipe
from protos.errors import InvalidInput


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("seed", -1, "0 or more"),
        ("epochs", -1, "1 or more"),
        ("warm_epochs", -1, "0 or more"),
        ("learning_rate", 0.0, "more than 0"),
        ("learning_rate", -1e-3, "more than 0"),
        ("learning_rate", float("nan"), "more than 0"),
        ("learning_rate", float("inf"), "more than 0"),
        ("tower_rate", -1.0, "0 or more"),
        ("tower_every", 0, "1 or more"),
        ("n_candidates", 0, "1 or more"),
        ("weight_decay", -0.1, "0 or more"),
        ("coder_steps", -1, "0 or more"),
        ("vector_dropout", 1.1, "from 0 to 1"),
        ("dmil_weight", -0.1, "0 or more"),
        ("target_decay", 1.5, "from 0 to 1"),
        ("n_targets", 0, "1 or more"),
        ("n_windows", 0, "1 or more"),
        ("n_samples", 0, "1 or more"),
        ("rows_a_batch", 0, "1 or more"),
        ("validation_users", -1, "0 or more"),
        ("patience", -1, "0 or more"),
        ("lora_rank", -1, "0 or more"),
    ],
)
def test_what_cannot_be_trained_by_is_named_with_what_is_allowed(field, value, allowed):
    with pytest.raises(InvalidInput, match=f"recipe: {field} is {value}, it must be {allowed}"):
        Recipe(**{field: value})


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_dropout_leaves_something(value):
    with pytest.raises(InvalidInput, match=f"dropout is {value}, it must be from 0 to below 1"):
        ModelConfig(dropout=value)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_scores_are_divided_by_a_temperature_above_zero(value):
    with pytest.raises(InvalidInput, match=f"temperature is {value}, it must be more than 0"):
        ModelConfig(temperature=value)


def test_the_quick_recipe_is_allowed():
    assert Recipe().quick().epochs == 1
