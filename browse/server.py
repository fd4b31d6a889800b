"""The server: GET and HEAD only, this machine only, one folder or one file only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from browse import pages
from browse.confinement import Refused, Scope
from storage.children import Child, ChildFailed
from storage.hdf5_errors import ArtifactError

HOSTS = ["127.0.0.1", "localhost"]
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


def application(scope: Scope, child: Child, time_limit_s: float = TIME_LIMIT_S) -> FastAPI:
    """The server's application. Files are read by `child`, at most `time_limit_s` seconds each time."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    def answer(question: str, file: str, *arguments: Any) -> Response:
        try:
            path = scope.file(file)
            content, headers = child.call(
                f"browse.content:{question}", path, *arguments, time_limit_s=time_limit_s
            )
        except Refused as error:
            return _message(404, str(error))
        except (ArtifactError, FileNotFoundError) as error:
            return _message(422, str(error).replace(str(scope.root), "."))
        except ChildFailed as error:
            return _message(504, f"{file}: {error.what}; the file is damaged, or a slice of it is faster")
        except Exception as error:
            return _message(
                422, f"cannot be read ({type(error).__name__}: {error})".replace(str(scope.root), ".")
            )
        return Response(content, headers=headers)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method not in ("GET", "HEAD"):
            response: Response = _message(405, "this server only shows; nothing can be written")
            response.headers["Allow"] = "GET, HEAD"
        else:
            response = await go_on(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        return response

    @app.api_route("/", methods=["GET", "HEAD"])
    def list_files() -> Response:
        return HTMLResponse(pages.listing(scope.only or scope.root.name, scope.files()))

    @app.api_route("/view", methods=["GET", "HEAD"])
    def view(file: str) -> Response:
        try:
            scope.file(file)
        except Refused as error:
            return _message(404, str(error))
        return HTMLResponse(pages.viewer())

    @app.api_route("/static/{name}", methods=["GET", "HEAD"])
    def static(name: str) -> Response:
        content = pages.static(name)
        if content is None:
            return _message(404, "no such file")
        return Response(content, media_type=pages.STATIC[name])

    @app.api_route("/api/meta", methods=["GET", "HEAD"])
    def meta(file: str, path: str = "/") -> Response:
        return answer("meta", file, path)

    @app.api_route("/api/attr", methods=["GET", "HEAD"])
    def attr(file: str, path: str = "/", attr_keys: Annotated[list[str] | None, Query()] = None) -> Response:
        return answer("attr", file, path, attr_keys)

    @app.api_route("/api/paths", methods=["GET", "HEAD"])
    def paths(file: str, path: str = "/") -> Response:
        return answer("paths", file, path)

    @app.api_route("/api/stats", methods=["GET", "HEAD"])
    def stats(file: str, path: str, selection: str | None = None) -> Response:
        return answer("stats", file, path, selection)

    @app.api_route("/api/data", methods=["GET", "HEAD"])
    def data(
        file: str,
        path: str,
        selection: str | None = None,
        format: str = "json",
        dtype: str = "origin",
        flatten: bool = False,
    ) -> Response:
        return answer("data", file, path, selection, format, dtype, flatten)

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return app


def _message(status: int, text: str) -> JSONResponse:
    """As h5web expects an error."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"message": plain}, status_code=status)
