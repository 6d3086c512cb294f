"""Errors that may cross a service boundary, each with the gRPC status it becomes.

Read top to bottom as a question: whose turn is it to act?

* InvalidInput      INVALID_ARGUMENT     the caller must change the request
* Unauthenticated   UNAUTHENTICATED      the caller must send a key that is known and valid
* NotPermitted      PERMISSION_DENIED    the caller must name tenants that the key may act for
* UnknownUser       NOT_FOUND            nobody; ask for a feed all the same: it will be the
trending one
* UnknownItem       NOT_FOUND            the caller must publish the item first, or has misspelt it
* VersionMismatch   FAILED_PRECONDITION  the operator must roll one side forward
* NotReady          FAILED_PRECONDITION  the operator must do what the message says (train, import,
start)
* TooLate           DEADLINE_EXCEEDED    the caller may ask again with more time
* Overloaded        RESOURCE_EXHAUSTED   the caller may retry after `retry_after_s`
* DependencyDown    UNAVAILABLE          the caller may retry now; an operator should look

Anything else that escapes a servicer is a bug of ours and becomes INTERNAL. On the wire each
carries a google.rpc.ErrorInfo with `reason` (the class name in UPPER_SNAKE) and domain "freshet"
(infra/grpc_errors.py).
"""

import re
from typing import ClassVar

import grpc

ERROR_DOMAIN = "freshet"


class FreshetError(Exception):
    """Base of every error that this system raises on purpose. The message says what to do next."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retryable: ClassVar[bool] = False

    @classmethod
    def reason(cls) -> str:
        """Return the stable name of the error for programs, e.g. UNKNOWN_USER."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()


class InvalidInput(FreshetError):
    status = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(FreshetError):
    status = grpc.StatusCode.UNAUTHENTICATED


class NotPermitted(FreshetError):
    status = grpc.StatusCode.PERMISSION_DENIED


class UnknownUser(FreshetError):
    status = grpc.StatusCode.NOT_FOUND


class UnknownItem(FreshetError):
    status = grpc.StatusCode.NOT_FOUND


class VersionMismatch(FreshetError):
    status = grpc.StatusCode.FAILED_PRECONDITION


class NotReady(FreshetError):
    status = grpc.StatusCode.FAILED_PRECONDITION


class TooLate(FreshetError):
    status = grpc.StatusCode.DEADLINE_EXCEEDED


class Overloaded(FreshetError):
    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DependencyDown(FreshetError):
    status = grpc.StatusCode.UNAVAILABLE
    retryable = True
