import os

import pytest

from infra.stack.state import StateFolder
from protos.errors import NotReady


@pytest.fixture
def state(tmp_path):
    folder = StateFolder.at(tmp_path / ".freshet")
    folder.claim()
    return folder


def test_two_folders_have_two_ids(tmp_path):
    assert StateFolder.at(tmp_path / "a").state_id != StateFolder.at(tmp_path / "b").state_id


def test_two_ways_to_one_folder_have_one_id(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)

    assert (
        StateFolder.at(tmp_path / "link" / "a").state_id == StateFolder.at(tmp_path / "a").state_id
    )


def test_a_folder_with_fetched_data_and_a_model_can_be_claimed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle.run").mkdir()

    StateFolder.at(tmp_path).claim()

    assert StateFolder.at(tmp_path).is_ours()


def test_somebodys_home_is_not_claimed(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")

    with pytest.raises(NotReady, match=r"not a Freshet state folder \(it holds thesis.tex\)"):
        StateFolder.at(tmp_path).claim()

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_purge_empties_and_removes_the_folder(state):
    (state.path / "kafka" / "log").mkdir(parents=True)
    (state.path / "kafka" / "log" / "0.log").write_text("x")

    assert state.purge() == []
    assert not state.path.exists()


def test_purge_refuses_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("x")

    with pytest.raises(NotReady, match="nothing was deleted"):
        StateFolder.at(tmp_path).purge()

    assert (tmp_path / "data" / "mine.csv").exists()


def test_purge_leaves_what_is_not_ours(state):
    (state.path / "notes.txt").write_text("mine")

    assert state.purge() == ["notes.txt"]
    assert (state.path / "notes.txt").read_text() == "mine"


def test_purge_does_not_follow_a_link_out_of_the_folder(state, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "ml-1m").write_text("x")
    (state.path / "data").symlink_to(tmp_path / "elsewhere")

    state.purge()

    assert (tmp_path / "elsewhere" / "ml-1m").exists()


def test_an_interrupted_purge_can_be_taken_up_again(state, monkeypatch):
    (state.path / "kafka").mkdir()
    (state.path / "stream").mkdir()

    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            state.purge()

    assert state.is_ours()
    assert state.purge() == []


def test_one_process_at_a_time_holds_the_folder(state):
    with (
        state.locked(),
        pytest.raises(NotReady, match="wait for it to finish"),
        StateFolder.at(state.path).locked(),
    ):
        pass


def test_the_socket_of_a_deep_folder_has_a_short_path(tmp_path):
    deep = StateFolder.at(tmp_path / ("x" * 120))

    assert len(os.fsencode(deep.socket)) < 96
    assert deep.state_id in deep.socket.name


def test_owner_is_remembered_until_it_is_taken_back(state):
    state.own(1234)
    assert state.owner() == 1234

    state.own(None)
    assert state.owner() is None
