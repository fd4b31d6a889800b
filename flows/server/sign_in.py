"""How a person gets into Prefect's UI without typing the key, and to the reports.

`up` prints an address with a ticket behind the `#`, which browsers send nowhere. The page at /sign-in takes
the ticket out of the address, asks for the key with it, and keeps the key where both of Prefect's UIs look
for it: in localStorage, kept per origin, port included; a cookie would go to every port of this machine.
A ticket is good for one use and for an hour. A report is fetched with the key by a page that holds nothing.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from flows.server.guard import Application, Message, Receive, Send

TICKET_S = 3600.0
TICKETS = 100
LONGEST = 1000
NOT_SIGNED_IN = (
    "not signed in; open the address that `retrieval-sfm up --store STORE` prints, also while it is up"
)
_SCRIPT = """
const ticket = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const say = (text) => { document.querySelector("p").textContent = text; };
const enter = async () => {
  const answer = await fetch("/sign-in", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({ticket}),
  });
  if (!answer.ok) { say(await answer.text()); return; }
  localStorage.setItem("prefect-password", btoa((await answer.json()).key));
  location.replace("/");
};
enter().catch(() => say("the server does not answer"));
"""
_READER = """
const password = localStorage.getItem("prefect-password");
const show = async () => {
  const headers = password ? {Authorization: "Basic " + password} : {};
  const answer = await fetch(location.pathname, {headers, cache: "no-store"});
  const found = await answer.text();
  if (!answer.ok) {
    document.querySelector("p").textContent = answer.status === 401 ? document.body.dataset.refused : found;
    return;
  }
  document.open();
  document.write(found);
  document.close();
};
show();
"""


def _page(title: str, script: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<body data-refused="{NOT_SIGNED_IN}"><p>...</p><script>{script}</script></body></html>'
    )


_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_OUTSIDE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SIGN_IN_RULES = f"default-src 'none'; script-src 'sha256-{_DIGEST}'; connect-src 'self'; {_OUTSIDE}"
REPORT_RULES = (  # a report brings its scripts and pictures with it and asks nobody for more
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    f"img-src data: blob:; font-src data:; worker-src blob:; connect-src 'self'; {_OUTSIDE}"
)


class Tickets:
    """What was given out and not used yet; in memory only."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def new(self) -> str:
        """A ticket, for one use. At most TICKETS are good at a time: the oldest goes."""
        while len(self._until) >= TICKETS:
            del self._until[next(iter(self._until))]
        ticket = secrets.token_urlsafe(32)
        self._until[_digest(ticket)] = time.monotonic() + TICKET_S
        return ticket

    def use(self, ticket: str) -> bool:
        """Whether the ticket was good; now it no longer is."""
        return self._until.pop(_digest(ticket), 0.0) > time.monotonic()


def with_pages(prefect: Application, key: str, reports: Path) -> Application:
    """Prefect's application with the pages of this module before it, and without its manual of the API.

    reports: folder of the report pages, /reports/RUN.html; nothing else of it is served.
    """
    tickets = Tickets()

    async def page(request: Request) -> Response:
        return HTMLResponse(_page("Signing in", _SCRIPT), headers=_kept_nowhere(SIGN_IN_RULES))

    async def enter(request: Request) -> Response:
        if not tickets.use(await _ticket_of(request)):
            refused = (
                "this address was used, or is older than an hour; for a new one, while it is up, run again: "
            )
            return PlainTextResponse(f"{refused}retrieval-sfm up --store STORE", 403)
        return JSONResponse({"key": key}, headers=_kept_nowhere(SIGN_IN_RULES))

    async def ticket(request: Request) -> Response:
        if not has_key(request, key):
            return PlainTextResponse("this needs the key of the store", 401)
        return JSONResponse({"ticket": tickets.new()}, headers=_kept_nowhere(SIGN_IN_RULES))

    async def report(request: Request) -> Response:
        if not has_key(request, key):
            return HTMLResponse(_page("Report", _READER), 401, headers=_kept_nowhere(REPORT_RULES))
        name = request.path_params["run"]
        path = reports / f"{name}.html"
        if not re.fullmatch("[0-9A-Za-z-]+", name) or not path.is_file():
            return PlainTextResponse("there is no report of this run", status_code=404)
        return FileResponse(path, media_type="text/html", headers=_kept_nowhere(REPORT_RULES))

    async def nothing(request: Request) -> Response:
        return PlainTextResponse("not found", status_code=404)

    routes = [
        Route("/sign-in", page, methods=["GET"]),
        Route("/sign-in", enter, methods=["POST"]),
        Route("/sign-in/ticket", ticket, methods=["POST"]),
        Route("/reports/{run}.html", report, methods=["GET"]),
        *(Route(path, nothing) for path in ("/docs", "/docs/{rest:path}", "/redoc", "/openapi.json")),
    ]
    router = Router(routes, redirect_slashes=False, default=prefect)

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        """Its start and its end are Prefect's, whose services begin and end with them."""
        await (prefect if scope["type"] == "lifespan" else router)(scope, receive, send)

    return application


def has_key(request: Request, key: str) -> bool:
    """Whether a request brings the key, as Prefect wants it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = base64.b64encode(key.encode()).decode()
    return scheme == "Basic" and hmac.compare_digest(given.strip().encode(), wanted.encode())


async def _ticket_of(request: Request) -> str:
    """The ticket in the body of a request; empty where there is none, or it is no JSON of ours."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > LONGEST:
            return ""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return ""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    ticket = found.get("ticket") if isinstance(found, dict) else None
    return ticket if isinstance(ticket, str) else ""


def _kept_nowhere(rules: str) -> dict[str, str]:
    return {"Cache-Control": "no-store", "Content-Security-Policy": rules}


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
