"""The tool that brings pictures to a size, and changes light, colour and kind of file on the way."""

from __future__ import annotations

from PIL import Image

from trainer.images.batch import Drawn, Piece, Source, Tool
from trainer.images.edits import edit, put
from trainer.images.geometry import fit, target_of
from trainer.images.ledger import Entry
from trainer.images.options import Resize


def resize_tool(options: Resize) -> Tool:
    """Pictures in the sizes of the options."""

    def draw(source: Source, image: Image.Image, entry: Entry | None) -> Drawn:
        keep = options.how == "keep"
        target = image.size if keep else target_of(image.size, options.sizes, options.buckets)
        placement = fit(image.size, target, options.how, upscale=not options.no_upscale)
        enlarged = placement.scale > 1.5
        notes = ("enlarged more than 1.5 times: better take larger pictures",) if enlarged else ()
        made = put(image, placement, options.background, options.interpolation)
        return Drawn([Piece(edit(made, options))], notes=notes)

    return Tool("resize", draw)
