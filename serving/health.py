"""/livez, /readyz: whether the process runs, and whether a picture would be captioned; no details for strangers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from serving.front import front_of

router = APIRouter()
_PLAIN = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/livez", summary="Whether the process runs", responses={200: {"description": "It does", **_PLAIN}})
async def livez() -> Response:
    """Says `ok` as long as the process answers at all."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    summary="Whether a picture would be captioned now",
    responses={200: {"description": "It would", **_PLAIN}, 503: {"description": "Not now", **_PLAIN}},
)
async def readyz(request: Request) -> Response:
    """503 while the engine starts, is gone or gives no answers, while too many wait, and once the server shuts down."""
    ready = front_of(request).service.ready
    return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)
