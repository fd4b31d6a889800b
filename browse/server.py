"""The server: GET and HEAD only, this machine only, one folder or one file only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from browse import pages
from browse.confinement import Refused, Scope
from storage.children.child import Child
from storage.children.errors import ChildFailed
from storage.files.errors import ArtifactError

HOSTS = ["127.0.0.1", "localhost"]
READING = ["GET", "HEAD"]
Keys = Annotated[list[str] | None, Query()]
TIME_LIMIT_S = 30.0
_HEADERS = {  # h5web compiles its loops over arrays, hence unsafe-eval; no script of elsewhere is let in
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Answers:
    """What is answered to the browser."""

    scope: Scope
    child: Child
    time_limit_s: float

    def list_files(self) -> Response:
        """The page with every file."""
        return HTMLResponse(pages.listing(self.scope.only or self.scope.root.name, self.scope.files()))

    def view(self, file: str) -> Response:
        """h5web on one of them."""
        try:
            self.scope.file(file)
        except Refused as error:
            return _message(404, str(error))
        return HTMLResponse(pages.viewer())

    def static(self, name: str) -> Response:
        """A part of h5web."""
        content = pages.static(name)
        if content is None:
            return _message(404, "no such file")
        return Response(content, media_type=pages.STATIC[name])

    def meta(self, file: str, path: str = "/") -> Response:
        return self._read("meta", file, path)

    def attr(self, file: str, path: str = "/", attr_keys: Keys = None) -> Response:
        return self._read("attr", file, path, attr_keys)

    def paths(self, file: str, path: str = "/") -> Response:
        return self._read("paths", file, path)

    def stats(self, file: str, path: str, selection: str | None = None) -> Response:
        return self._read("stats", file, path, selection)

    def data(
        self,
        file: str,
        path: str,
        selection: str | None = None,
        format: str = "json",
        dtype: str = "origin",
        flatten: bool = False,
    ) -> Response:
        return self._read("data", file, path, selection, format, dtype, flatten)

    def _read(self, question: str, file: str, *arguments: Any) -> Response:
        """What `browse.content` says of a file."""
        try:
            path, asked = self.scope.file(file), f"browse.content:{question}"
            content, headers = self.child.call(asked, path, *arguments, time_limit_s=self.time_limit_s)
        except Refused as error:
            return _message(404, str(error))
        except (ArtifactError, FileNotFoundError) as error:
            return _message(422, self._inside(str(error)))
        except ChildFailed as error:
            return _message(504, f"{file}: {error.what}; the file is damaged, or a slice of it is faster")
        except Exception as error:
            return _message(422, self._inside(f"cannot be read ({type(error).__name__}: {error})"))
        return Response(content, headers=headers)

    def _inside(self, text: str) -> str:
        """A text that does not say where the folder is."""
        return text.replace(str(self.scope.root), ".")


def application(scope: Scope, child: Child, time_limit_s: float = TIME_LIMIT_S) -> FastAPI:
    """The server's application. Files are read by `child`, at most `time_limit_s` seconds each time."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    answers = Answers(scope, child, time_limit_s)
    app.add_api_route("/", answers.list_files, methods=READING)
    app.add_api_route("/view", answers.view, methods=READING)
    app.add_api_route("/static/{name}", answers.static, methods=READING)
    for question in (answers.meta, answers.attr, answers.paths, answers.stats, answers.data):
        app.add_api_route(f"/api/{question.__name__}", question, methods=READING)
    app.middleware("http")(_guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return app


async def _guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Nothing but reading, and the headers that keep others out."""
    if request.method in READING:
        response = await go_on(request)
    else:
        response = _message(405, "this server only shows; nothing can be written")
        response.headers["Allow"] = ", ".join(READING)
    response.headers.update(_HEADERS)
    return response


def _message(status: int, text: str) -> JSONResponse:
    """As h5web expects an error."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"message": plain}, status_code=status)
