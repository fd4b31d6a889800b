"""Who may ask a Prefect server that we start: under its own names, and no page of another origin.

The key keeps out who does not have it; this keeps out the pages that a person who has it looks at. A page of
another origin is known by what browsers say of it (Origin, Sec-Fetch-Site); a page whose own name was made to
point to this machine (DNS rebinding), by that name in Host. Imports neither Prefect nor Starlette.
"""

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANYWHERE = frozenset({"0.0.0.0", "::"})
RULES = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""For Prefect's UIs: no script of elsewhere is let in, and nothing is told elsewhere (they ask a service that
records what people do for its settings)."""
HEADERS = (
    (b"x-frame-options", b"DENY"),  # a frame of another page is where clicks are stolen
    (b"content-security-policy", RULES.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI: passes to `application` what may be asked.

    host: the address that the server listens on. names: further ones that the user allows.
    """

    def __init__(self, application: Application, host: str, names: Iterable[str] = ()) -> None:
        self._application = application
        self._anywhere = host in ANYWHERE
        self._given = frozenset(name.lower().rstrip(".") for name in names)
        self._names = LOOPBACK | self._given | {host.lower()}
        if host.lower() not in LOOPBACK:
            self._names |= own_names()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            await self._application(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(_with_headers(send), *refused)

    def _refusal(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """Status and reason of a request that is not passed on."""
        hosts = _values(scope, b"host")
        name = name_of(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_own(name):
            return 421, (
                f"this server does not answer to the name {shown(name)}; if it is this machine's: "
                f"retrieval-sfm up --name {shown(name)}\n"
            )
        if not all(self._is_own_origin(origin, hosts[0]) for origin in _values(scope, b"origin")):
            return 403, "pages of another origin are not answered\n"
        if not _is_of_own_page(scope):
            return 403, "pages of another origin are not answered\n"
        return None

    def _is_own(self, name: str) -> bool:
        """Any number is, where all addresses are listened on: only a name can be made to point elsewhere."""
        return name in self._names or (self._anywhere and _is_number(name))

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """A proxy in front of the server may have put another Host in place of the given name."""
        scheme, _, place = origin.partition("://")
        if scheme not in ("http", "https"):
            return False
        return place.lower() == host.lower() or name_of(place) in self._given


def own_names() -> set[str]:
    """What this machine is called."""
    host = socket.gethostname().lower()
    return {host, host.partition(".")[0], f"{host.partition('.')[0]}.local"} - {"", ".local"}


def name_of(place: str) -> str | None:
    """The name in `name:port`, lower case; None where there is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@?#\s]+?)\.?(?::[0-9]*)?", place)
    return found[1].strip("[]").lower() if found else None


def shown(name: str | None) -> str:
    """A name as part of a message: nothing that is not a letter of names."""
    return name if name and re.fullmatch(r"[0-9a-z.:-]{1,253}", name) else "NAME"


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_of_own_page(scope: Mapping[str, Any]) -> bool:
    """Whether the browser, if it says anything, says that a page of ours asks, or a person follows a link."""
    site = _values(scope, b"sec-fetch-site")
    if all(each in ("same-origin", "none") for each in site):
        return True
    link = _values(scope, b"sec-fetch-mode") == ["navigate"] and _values(scope, b"sec-fetch-dest") == [
        "document"
    ]
    return link and scope.get("method") in ("GET", "HEAD") and not str(scope["path"]).startswith("/api")


def _values(scope: Mapping[str, Any], header: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for name, value in scope["headers"] if name.lower() == header]


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            has = {name.lower() for name, _ in message.get("headers", ())}
            more = [(name, value) for name, value in HEADERS if name not in has]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
