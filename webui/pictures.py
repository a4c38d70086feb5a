"""Pictures of data sets, made small: for the tag editor, the doctor, and the tools that show what they work on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainer.folders.files import is_picture
from webui.browse import inside
from webui.files import SIZES, small, thumbs_of
from webui.routing import Tree, route, whole
from webui.runs import Missing
from webui.settings import Settings


def routes(settings: Settings) -> list[Route]:
    """`/api/picture?path=&size=`: a picture of a folder that the page may use, at most `size` pixels, as WebP."""

    def picture(request: Request, body: Tree) -> Response:
        path = inside(request.query_params.get("path", ""), settings.roots)
        if not is_picture(path.name) or not path.is_file():
            raise Missing(f"{path.name[:200]}: no such picture; it may have been moved")
        return small(path, whole("size", request.query_params.get("size", "256"), *SIZES), thumbs_of(settings))

    return [route("/api/picture", GET=picture)]
