"""Say what can be asked, and where: the routes of the server."""

from importlib.metadata import version
from importlib.resources import files
from tempfile import SpooledTemporaryFile
from typing import Annotated, BinaryIO, cast

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from tubelet.serving.limits import TOKEN_PROTOCOL, Access, Guard
from tubelet.serving.live import LiveStream
from tubelet.serving.refusals import Refusal
from tubelet.serving.service import Question, Service

__all__ = ["make_app"]

_IN_MEMORY = 4 << 20
"""Bytes of an upload before it goes to a file without a name, which nobody else can open and nothing leaves behind."""

_PAGE = {
    "index.html": "text/html",
    "docs.html": "text/html",
    "page.css": "text/css",
    "asking.js": "text/javascript",
    "page.js": "text/javascript",
    "docs.js": "text/javascript",
}

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The video: as the body itself, or as the field `file` of a form.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}

_Model = Annotated[str | None, Query(description="A name that /models lists; the first one without it.")]
_Top = Annotated[int, Query(ge=1, le=100, description="Classes, likeliest first.")]
_Views = Annotated[int, Query(ge=1, le=10, description="Clips spread over the video, averaged.")]
_Coverage = Annotated[
    float, Query(gt=0, lt=1, description="Share of videos whose label_set shall hold the true class.")
]
_Timeline = Annotated[bool, Query(description="Classify up to 12 equal parts of the video, too.")]
_Label = Annotated[str | None, Query(description="The class that is asked about; the predicted one without it.")]


def make_app(service: Service, access: Access) -> FastAPI:
    """Make the server's application.

    Args:
        service: answers.
        access: who may ask.
    """

    app = FastAPI(
        title="tubelet",
        version=version("tubelet"),
        summary="What is in this video?",
        docs_url=None,  # FastAPI's page loads its script from another host; ours is at /docs
        redoc_url=None,
    )
    options = service.options
    app.add_middleware(
        Guard,
        access=access,
        body_bytes=options.upload_bytes,
        body_s=options.body_s,
        monitor=service.monitor,
    )
    app.add_exception_handler(HTTPException, _refuse_status)
    app.add_exception_handler(RequestValidationError, _refuse_request)
    _add_questions(app, service)
    _add_states(app, service)
    _add_page(app)
    return app


def _add_questions(app: FastAPI, service: Service) -> None:
    @app.post("/predict", openapi_extra=_BODY, summary="Classify a video")
    async def predict(
        request: Request,
        model: _Model = None,
        top: _Top = 5,
        views: _Views = 1,
        coverage: _Coverage = 0.9,
        timeline: _Timeline = False,
    ) -> JSONResponse:
        served = service.find_model(model)
        with service.take_place():
            upload = await _receive(request)
            with upload:
                question = Question(top, views, coverage, timeline)
                return JSONResponse(await service.classify(served, upload, question))

    @app.post("/explain", openapi_extra=_BODY, summary="Show which parts of a video speak for a class")
    async def explain(request: Request, model: _Model = None, label: _Label = None) -> JSONResponse:
        served = service.find_model(model)
        with service.take_place():
            upload = await _receive(request)
            with upload:
                return JSONResponse(await service.explain(served, upload, label))

    @app.websocket("/stream")
    async def stream(socket: WebSocket, model: str | None = None) -> None:
        names = socket.scope.get("subprotocols", [])
        if len(open_streams) >= service.options.sockets or service.is_stopping or model not in {None, *service.models}:
            await socket.close(1013)
            return
        open_streams.add(socket)
        service.monitor.sockets.set(len(open_streams))
        try:
            await socket.accept(next((name for name in names if not name.startswith(TOKEN_PROTOCOL)), None))
            await LiveStream(socket, service, service.find_model(model)).run()
        finally:
            open_streams.discard(socket)
            service.monitor.sockets.set(len(open_streams))

    open_streams: set[WebSocket] = set()


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/models", summary="List the models")
    async def models() -> JSONResponse:
        described = [served.describe() for served in service.models.values()]
        return JSONResponse({"models": described, "upload_mb": service.options.upload_mb})

    @app.get("/healthz", summary="Say whether the server lives")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="Say whether new requests are welcome")
    async def readyz() -> JSONResponse:
        return JSONResponse({"ready": service.is_ready}, 200 if service.is_ready else 503)

    @app.get("/metrics", summary="Give figures in Prometheus' format")
    async def metrics() -> Response:
        return Response(service.monitor.render(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI) -> None:
    folder = files("tubelet.serving").joinpath("page")
    contents = {name: folder.joinpath(name).read_bytes() for name in _PAGE}

    def show(name: str) -> Response:
        return Response(contents[name], media_type=_PAGE[name])

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return show("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return show("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def page(name: str) -> Response:
        if name not in contents:
            raise Refusal("not_found")
        return show(name)


async def _receive(request: Request) -> BinaryIO:
    """Receive an upload into memory, or into a file without a name; what the client calls it is never used."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            form = await request.form(max_files=1, max_fields=4)
        except (HTTPException, MultiPartException):
            raise Refusal("bad_request") from None
        sent = form.get("file")
        if not isinstance(sent, UploadFile):
            await form.close()
            raise Refusal("no_file")
        return sent.file
    spool = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by whoever asked for it
    try:
        async for piece in request.stream():
            spool.write(piece)
    except BaseException:
        spool.close()
        raise
    return cast(BinaryIO, spool)


async def _refuse_status(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    raise Refusal({404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request"))


async def _refuse_request(_: Request, __: Exception) -> Response:
    raise Refusal("bad_request")
