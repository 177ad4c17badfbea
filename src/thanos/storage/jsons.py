"""Reading JSON that commands left: of bounded size, as its schema says, and as it was written where it bears a mark."""

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thanos.errors import DataError
from thanos.storage.manifest import check_whole
from thanos.storage.schemas import Kept

LARGEST = 64 * 2**20
"""Bytes of a JSON file that is read: what is parsed takes up to some twenty times as much memory."""
MARK = "blake2b"
"""Under which an object keeps the mark of all else in it."""


def read_json(file: Path, schema: type[Kept]) -> dict[str, Any]:
    """A JSON object.

    Args:
        file: Is to be there.
        schema: What it is to hold.
    Raises:
        DataError: if the file is missing, holds something else, or is not as it was written.
    """
    check_whole(file)
    content = parsed(file)
    marked = content.pop(MARK, None)
    if marked not in (None, mark_of(content)):
        raise DataError(f"{file} is not as it was written. Bring back a copy, or remove it and make it anew.")
    return checked(content, schema, str(file))


def read_json_lines(file: Path, schema: type[Kept]) -> list[dict[str, Any]]:
    """An object a line. Args, Raises: as :func:`read_json`."""
    check_whole(file)
    lines = _text(file).splitlines()
    return [checked(_loaded(line, file), schema, f"{file}, line {i}") for i, line in enumerate(lines, start=1)]


def marked(content: dict[str, Any]) -> dict[str, Any]:
    """The same as JSON has it, with a mark that :func:`read_json` holds against it."""
    plain = json.loads(json.dumps(content))
    return {**plain, MARK: mark_of(plain)}


def mark_of(content: Any) -> str:
    """Of plain values."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def checked(content: Any, schema: type[Kept], where: str) -> dict[str, Any]:
    """Plain values, if they are as a schema says.

    Raises:
        DataError: if not; names the place.
    """
    try:
        schema.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
    else:
        return dict(content)
    at = ".".join(str(key) for key in fault["loc"]) or "the whole of it"
    said = "it is missing" if fault["type"] == "missing" else f"{fault['msg']}; got {repr(fault['input'])[:60]}"
    raise DataError(f"{where} is damaged, in what it says of {at!r}: {said}. Bring back a copy, or make it anew.")


def parsed(file: Path) -> dict[str, Any]:
    """A JSON object, whatever it holds.

    Raises:
        DataError: if the file is missing, too large, or holds something else.
    """
    return _loaded(_text(file), file)


def _text(file: Path) -> str:
    try:
        size = file.stat().st_size
        text = file.read_text("utf-8") if size <= LARGEST else None
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    if text is None:
        raise DataError(f"{file} has {size / 2**20:,.0f} MB; JSON of up to {LARGEST / 2**20:.0f} MB is read.")
    return text


def _loaded(text: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, error) from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object. Make it anew, or remove it.")
    return content


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read ({str(error).splitlines()[0]}). Make it anew, or remove it.")


def holds(*keys: str) -> Callable[[Path], bool]:
    """Whether a file is a JSON object with these keys."""

    def of(file: Path) -> bool:
        try:
            return set(keys) <= set(parsed(file))
        except DataError:
            return False

    return of
