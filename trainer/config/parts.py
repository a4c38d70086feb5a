"""What every part of the schema is made of."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.fields import ComputedFieldInfo, FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Kohya:
    """A field's key in kohya_ss, the label that tutorials know it by, and today's label of the Kohya GUI if it differs.

    A plain dataclass: a pydantic model as metadata provokes serializer warnings.
    """

    key: str
    label: str
    today: str = ""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "kohya": self.key, **({"kohya_label": self.today} if self.today else {})}


@dataclass(frozen=True)
class IsPath:
    """Marks a file or folder: a relative one counts from the config's file."""


def label(name: str, field: FieldInfo | ComputedFieldInfo) -> str:
    """What a field is called on the page, and in the JSON schema's `title`."""
    known = [mark.label for mark in getattr(field, "metadata", ()) if isinstance(mark, Kohya)]
    return field.title or next(iter(known), name.replace("_", " ").capitalize())


class Part(BaseModel):
    """A group of options: immutable, and a name it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, field_title_generator=label
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        """A help is one line wherever it is read, over how many lines it may be written here."""
        for field in cls.model_fields.values():
            field.description = field.description and " ".join(field.description.split())


def _size(value: Any) -> Any:
    """One number means a square; "512,768" is how the Kohya GUI writes a size."""
    if isinstance(value, str):
        value = [int(side) if side.strip().isdigit() else side for side in re.split(r"[,x]", value)]
    if isinstance(value, int):
        value = [value]
    return [*value, *value] if isinstance(value, list) and len(value) == 1 else value


def _off(value: Any) -> Any:
    return None if value == "" else value


def _span(value: int | str) -> int | str:
    if isinstance(value, str) and not re.fullmatch(r"\d{1,2}(\.\d+)?%", value):
        raise ValueError(f"{value!r} is neither a number of steps nor a share such as '10%'")
    return value


def step_of(span: int | str | None, steps: int) -> int | None:
    """The step that a `Span` stands for in a training of so many; None for none."""
    return math.ceil(float(span.removesuffix("%")) / 100 * steps) if isinstance(span, str) else span


Probability = Annotated[float, Field(ge=0, le=1)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=64, le=4096)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]
Folder = Annotated[str, Field(min_length=1), IsPath()]
"""A folder that is there, as a person writes it."""
Text = Annotated[str | None, BeforeValidator(_off)]
"""A text that may be off; nothing written is off too."""
Line = Annotated[str, Field(pattern=r"^[^\r\n]*[^\s][^\r\n]*$")]
"""A text of one line that says something."""
Rate = Annotated[float, Field(gt=0)] | Literal["same"] | None
Span = Annotated[Annotated[int, Field(ge=0)] | str, AfterValidator(_span)]
"""A number of steps, or a share of all steps such as `10%`."""
