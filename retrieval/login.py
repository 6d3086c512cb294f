"""The page's own door: HTTP Basic with an API key as the password, or the key as a Bearer token.

A browser asks for the password itself and sends it with all that the page loads. The user name is
not looked at. The key must be one that may act for the page's tenant.
"""

import base64
import binascii

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.api_keys import ApiKey, KeyFile, digest_of

_ASK = {"WWW-Authenticate": 'Basic realm="Freshet", charset="UTF-8"'}


class Login:
    """An ASGI middleware. A feed that is open ends when its key does."""

    def __init__(self, app: ASGIApp, keys: KeyFile, tenant: str) -> None:
        self._app, self._keys, self._tenant = app, keys, tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        digest = digest_of(key_of(Headers(scope=scope).get("authorization", "")))
        refusal = self._refusal(self._keys.find(digest))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        has_ended = False

        async def send_while_valid(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            if self._refusal(self._keys.find(digest)) is not None:
                if message["type"] != "http.response.body":
                    return
                has_ended = True
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, receive, send_while_valid)

    def _refusal(self, key: ApiKey | None) -> Response | None:
        if key is None:
            said = {"error": "log in with an API key as the password; any user name will do"}
            return JSONResponse(said, 401, headers=_ASK)
        if not key.may_act_for({self._tenant}):
            return JSONResponse({"error": f"API key {key.name!r} is not for this page"}, 403)
        return None


def key_of(authorization: str) -> str:
    """Return the key of an Authorization header, "" when there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
