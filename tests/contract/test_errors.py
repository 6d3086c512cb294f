import grpc
import pytest

from protos import errors


def public_errors() -> list[type[errors.FreshetError]]:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    return [cls for cls in classes if issubclass(cls, errors.FreshetError)]


@pytest.mark.parametrize("error", public_errors(), ids=lambda cls: cls.__name__)
def test_retryable_exactly_when_the_status_says_so(error):
    transient = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}

    assert error.retryable == (error.status in transient)


@pytest.mark.parametrize("error", public_errors()[1:], ids=lambda cls: cls.__name__)
def test_every_error_is_explained_with_its_status(error):
    assert error.__name__ in errors.__doc__
    assert error.status.name in errors.__doc__


def test_reasons_are_upper_snake_and_differ():
    reasons = [cls.reason() for cls in public_errors()]

    assert "UNKNOWN_USER" in reasons
    assert len(set(reasons)) == len(reasons)
