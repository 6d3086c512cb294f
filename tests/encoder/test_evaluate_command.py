"""`freshet evaluate` on a small data set, and what it refuses."""

import json
from dataclasses import replace

import pytest
from matplotlib.image import imread

from encoder.bundle import save_bundle
from encoder.evaluation_run import Options, evaluate_bundle
from encoder.protocols import Kind, judge
from encoder.run_folder import RunFolder
from encoder.trainer import Step
from encoder.training_log import TrainingLog
from protos.errors import InvalidInput
from tests.encoder.test_evaluate import history
from tests.encoder.tiny import make_bundle

N_USERS, N_EVENTS = 30, 12
MOMENT_MS = 1_000_000 + 10 * 60_000
"""The last three of each user's events are later."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Users with one event a minute."""
    folder = tmp_path_factory.mktemp("data")
    items = ["item_id,title", *(f"item-{n},thing {n}" for n in range(40))]
    events = ["user_id,item_id,event_time_ms,action"]
    for user in range(N_USERS):
        for minute in range(N_EVENTS):
            at_ms = 1_000_000 + minute * 60_000 + user
            events.append(f"u{user},item-{(user + minute * 3) % 40},{at_ms},view")
    (folder / "items.csv").write_text("\n".join(items))
    (folder / "events.csv").write_text("\n".join(events))
    return folder


@pytest.fixture(scope="module")
def until_moment(tmp_path_factory):
    """A bundle that has learned from nothing after the moment."""
    folder = tmp_path_factory.mktemp("until") / "bundle"
    save_bundle(replace(make_bundle(), metrics={"trained_until_ms": MOMENT_MS}), folder)
    return folder


def evaluate(bundle, data, capsys, **options):
    evaluate_bundle(bundle, str(data), None, Options(as_json=True, **options))
    return json.loads(capsys.readouterr().out)


def test_every_recommender_is_judged_on_every_case(bundle_folder, data, capsys):
    said = evaluate(bundle_folder, data, capsys)

    assert (said["split"], said["n_cases"]) == ("leave-one-out", N_USERS)
    assert set(said["figures"]) == {"refined", "coarse", "cooccurrence", "popularity"}
    for one in said["details"].values():
        for groups in (one["by_length"], one["by_popularity"]):
            assert sum(group["n_cases"] for group in groups.values()) == N_USERS
        assert 0 < one["beyond"]["coverage@10"] <= 1


def test_rows_that_are_left_out_are_said(bundle_folder, data, tmp_path, capsys):
    for name in ("items.csv", "events.csv"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    with (tmp_path / "events.csv").open("a") as events:
        events.write("\nu1,item-1,soon,view\n")

    evaluate_bundle(bundle_folder, str(tmp_path), None, Options())

    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 361 events cannot be read and are left out; `freshet data inspect`" in said


def test_events_outside_the_catalogue_and_users_with_too_few_are_said(
    bundle_folder, data, tmp_path, capsys
):
    for name in ("items.csv", "events.csv"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    with (tmp_path / "events.csv").open("a") as events:
        events.write("\nstranger,item-1,5000,view\nstranger,foreign,6000,view\n")

    evaluate_bundle(bundle_folder, str(tmp_path), None, Options(as_json=True))

    said = capsys.readouterr()
    assert "1 of 362 events are on items outside the catalogue" in " ".join(said.err.split())
    assert "1 of 31 users have fewer than two events" in " ".join(said.err.split())
    assert json.loads(said.out)["data_kept"]["n_outside"] == 1


@pytest.mark.parametrize(
    ("kind", "n_cases"),
    [(Kind.TEMPORAL, N_USERS), (Kind.PREQUENTIAL, 2 * N_USERS)],
)
def test_what_comes_after_the_moment_is_foretold(until_moment, data, capsys, kind, n_cases):
    said = evaluate(until_moment, data, capsys, kind=kind)

    assert (said["split"], said["n_cases"]) == (kind, n_cases)


def test_no_more_cases_than_asked_for(until_moment, data, capsys):
    said = evaluate(until_moment, data, capsys, kind=Kind.PREQUENTIAL, limit=7)

    assert said["n_cases"] == 7


def test_a_model_is_not_asked_for_what_it_has_learned(bundle_folder, data):
    with pytest.raises(InvalidInput, match=r"train one with --until, e\.g\. --until 0\.9"):
        evaluate_bundle(bundle_folder, str(data), None, Options(Kind.TEMPORAL))


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_error(bundle_folder, data, device):
    with pytest.raises(InvalidInput, match=f"cannot compute on --device {device} .* give cpu"):
        evaluate_bundle(bundle_folder, str(data), None, Options(device=device))


def test_nothing_after_the_moment_is_known_to_learn_from():
    histories = [history(1, 2, 3, 4), history(5, 6)]

    protocol = judge(Kind.TEMPORAL, histories, moment_ms=2)

    assert [known.item_rows.tolist() for known in protocol.known] == [[1, 2], [5, 6]]
    assert protocol.split.targets == [3]


def test_plots_show_the_evaluation_and_the_run(until_moment, data, tmp_path, capsys):
    folder = RunFolder(until_moment)
    folder.claim({})
    log = TrainingLog(folder)
    for n in range(1, 4):
        step = Step("all", 0, n, 3, {"next": 3.0 / n}, 10, 0.1, n, ends_epoch=True)
        log.step(step)
        log.write(step, {"validation/ndcg@10": 0.1 * n})
    log.close()

    evaluate(until_moment, data, capsys, plots=tmp_path / "plots")

    for name in ("evaluation.png", "training.png"):
        picture = imread(tmp_path / "plots" / name)
        assert picture.shape[1] > 1000
        assert picture.std() > 0.05  # something is drawn
