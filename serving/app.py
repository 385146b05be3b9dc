"""The application: its routes, its OpenAPI page and its errors; limits are the guard's, in front of it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving import captions, chat, health, pages
from serving.answers import ProblemAnswer
from serving.bodies import CaptionBody
from serving.chat import ChatBody
from serving.front import Front, exchange_of, problem_response
from serving.problems import Problem

DESCRIPTION = """One picture or clip in, one caption out: screened, decoded, captioned and judged as a batch run would.

Errors are `application/problem+json` with a `reason` from a closed list: docs/reasons.md for what was sent, and those
named at each answer below."""
HTTP_REASONS = {404: "not_found", 405: "method_not_allowed"}
LEFT = 499  # for the log and the metrics: nobody is there to read it


def application(front: Front) -> FastAPI:
    """The routes over one front."""
    app = FastAPI(
        title="Recap",
        version=version("recap"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would redirect to whichever Host the client named
    )
    app.state.front = front
    for routes in (captions, chat, health, pages):
        app.include_router(routes.router)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return problem_response(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        response = problem_response(request, Problem(HTTP_REASONS.get(error.status_code, "bad_request")))
        if error.headers and "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        exchange_of(request).reason = "client_left"
        return Response(status_code=LEFT)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return problem_response(request, Problem("internal_error"))

    described = _described(app)
    app.openapi = lambda: described  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the parts that are only referred to."""
    found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for model in (CaptionBody, ChatBody, ProblemAnswer):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return found
