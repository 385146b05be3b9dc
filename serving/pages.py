"""The pages: plain files with no build step and nothing from elsewhere, so that they work without a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import pipelines
from captioner.reasons import OUTCOMES
from serving.front import front_of, json_response
from serving.problems import Problem
from serving.runs import RunView

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parent / "pages"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}
FILES["report.css"] = (
    Path(pipelines.__file__).parent / "report.css.j2"
).read_bytes()  # the report's looks are ours too
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(name: str, **values: object) -> Response:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return Response(_templates().get_template(name).render(values), headers=headers, media_type="text/html")


@cache
def _templates() -> Environment:
    """Once: strangers may ask for pages, and to compile one costs 10 to 30 ms."""
    found = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.filters["marked"] = _marked
    return found


def _marked(text: str) -> Markup:
    """Our own words, with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(each) if n % 2 else each for n, each in enumerate(parts))


@router.get("/")
async def caption_page(request: Request) -> Response:
    """The page to drop a picture or clip on."""
    front = front_of(request)
    recipe = front.service.recipe
    return _page(
        "caption.html",
        page="caption",
        recipe=recipe,
        takes_prompt=front.service.takes_prompt,
        takes_clips=front.service.clips is not None,
        wants_key=front.keyring.wanted,
        has_run=front.run is not None,
    )


@router.get("/docs")
async def docs_page(request: Request) -> Response:
    """The OpenAPI document to read, without a script from elsewhere."""
    return _page("docs.html", page="docs", document=request.app.openapi(), has_run=front_of(request).run is not None)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/run")
async def run_page(request: Request) -> Response:
    """The page that shows a run live. Raises Problem not_found where none is shown."""
    front = front_of(request)
    if front.run is None:
        raise Problem("not_found", "this service was not started with --run")
    return _page("run.html", page="run", wants_key=front.keyring.wanted, has_run=True, outcomes=OUTCOMES)


@router.get("/v1/run")
async def run(request: Request) -> Response:
    """What the page shows. Raises Problem."""
    return json_response(_run(request).seen, {"Cache-Control": "no-store"})


@router.get("/v1/run/pictures/{name}")
async def run_picture(request: Request, name: str) -> Response:
    """A picture of the page, decoded apart and shrunk. Raises Problem."""
    picture = _run(request).pictures.get(name)
    if picture is None:
        raise Problem("not_found")
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _run(request: Request) -> RunView:
    front = front_of(request)
    front.who(request, "run")
    if front.run is None:
        raise Problem("not_found", "this service was not started with --run")
    return front.run


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Style and scripts of the pages."""
    if name not in FILES:
        raise Problem("not_found")
    return Response(FILES[name], media_type=KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"})
