"""What a person changed about discovered subclasses on their page: names, moved images, marks; read and checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, StringConstraints, ValidationError

from thanos.config import Settings, explain
from thanos.data.content import content_of
from thanos.data.samples import Values
from thanos.errors import ConfigError

Mark = Literal["harmful", "not a group", "look again"]
Name = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=1000)]
CHUNK = 64
"""Images that are looked at at a time: they may be files."""
MOST_SAID = 600
"""Characters of a line about a file that has fault after fault."""


class Moved(Settings):
    """An image that was put elsewhere."""

    image: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=4096)]
    content: Annotated[str, StringConstraints(strict=True, pattern="^([0-9a-f]{8,16})?$")] = ""
    """The first digits of :func:`thanos.data.content.content_of`; empty: not known, it is taken by its name."""
    superclass: Name
    to: Name
    """A name of a subclass after ``names``, or a new one."""


class Edits(Settings):
    """The file that a page saves."""

    edits: Literal[1]
    """The version of its form."""
    table: Annotated[str, StringConstraints(strict=True, pattern="^[0-9a-f]{8}$")]
    """The mark of the table that was edited (:func:`thanos.data.group_table.mark`)."""
    names: Annotated[dict[Name, Name], Field(default_factory=dict, max_length=100_000)]
    """By subclass, or part of a finer cut; equal names merge inside a superclass."""
    moved: Annotated[tuple[Moved, ...], Field(max_length=1_000_000)] = ()
    marks: Annotated[dict[Name, Mark], Field(default_factory=dict, max_length=100_000)]
    """By name after the edits."""


@dataclass(frozen=True)
class AtHand:
    """The images (or vectors) that a table is read for: what was moved is held against them."""

    names: Sequence[str]
    """As the table calls them, (n,)."""
    values: Callable[[], Values | None]
    """Reads them, (n, ...); None: they cannot be read any more."""
    shape: list[int] | None
    """Of one of them as the page had it: read at another size, it would hold something else. None: not known."""
    say: Callable[[str], None]
    """Receives how many moved images still fit."""


def holds_edits(content: Mapping[Any, Any]) -> bool:
    """Whether a file of names is one that a page saved."""
    return "edits" in content


def parse_edits(content: Mapping[Any, Any], file: Path) -> Edits:
    """Check what a file says, apart from the table that it is for.

    Raises:
        ConfigError: for a version, a key, a mark or a value that is not known.
    """
    try:
        empty = {key for key, value in content.items() if value is None and key in ("names", "moved", "marks")}
        return Edits.model_validate({key: value for key, value in content.items() if key not in empty})
    except ValidationError as error:
        said = explain(error)
        said = said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}..."
        raise ConfigError(f"{file} is no file of edits as a page saves it: {said}") from None


def still_fitting(moved: Mapping[str, Moved], here: AtHand | None, file: Path) -> set[str]:
    """Those of the moved images that are there and hold what they held.

    Args:
        moved: By the table's name of the image.
        here: None: nothing is known, and all of them count.
        file: For messages.
    Raises:
        ConfigError: if there are some, and none of them fits.
    """
    if here is None or not moved:
        return set(moved)
    row = {name: i for i, name in enumerate(here.names)}
    there = [image for image in moved if image in row]
    known, values = [image for image in there if moved[image].content], None
    if known and (values := here.values()) is not None and here.shape not in (None, list(values.shape[1:])):
        values = None
    digests = {} if values is None else dict(zip(known, _contents(values, [row[i] for i in known]), strict=True))
    changed = {image for image, digest in digests.items() if not digest.startswith(moved[image].content)}
    fitting = set(there) - changed
    gone, count = len(moved) - len(there), f"{len(fitting):,} of {len(moved):,} moved images"
    if not fitting:
        raise ConfigError(
            f"none of the {len(moved):,} moved images of {file} fits: {gone:,} are not here, {len(changed):,} hold "
            f"something else. Read the images that the page showed, or take `moved` out of the file."
        )
    doubt = "; by name alone, for they are not read as the page had them" if known and values is None else ""
    lost = f": {gone:,} are not here, {len(changed):,} hold something else" if len(fitting) < len(moved) else ""
    here.say(f"{count} of {file} are here as they were{lost}{doubt}")
    return fitting


def _contents(values: Values, rows: Sequence[int]) -> Iterator[str]:
    for start in range(0, len(rows), CHUNK):
        yield from map(content_of, values[np.array(rows[start : start + CHUNK])])
