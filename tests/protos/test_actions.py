from protos.actions import actions_by_code, declared_actions


def test_codes_of_actions_never_change():
    """They stand in histories for ever; an action may be added, never renumbered."""
    codes = {name: action.code for name, action in declared_actions().items()}

    assert codes == {
        "impression": 0, "view": 1, "click": 2, "play": 3, "like": 4, "purchase": 5, "dismiss": 6,
    }  # fmt: skip


def test_impressions_enter_no_history():
    outside = [action.name for action in declared_actions().values() if not action.history]

    assert outside == ["impression"]


def test_a_code_leads_back_to_its_action():
    assert actions_by_code()[5].name == "purchase"
