"""What every set of scores is: a frozen record with names, and the same as plain values for JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Scores with names; what was not measured is None."""

    def to_dict(self) -> dict[str, Any]:
        """As it is written to JSON: by name, without what was not measured."""
        found = ((each.name, _plain(getattr(self, each.name))) for each in fields(self))
        return {name: value for name, value in found if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Scores):
        return value.to_dict()
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, Mapping) else value
