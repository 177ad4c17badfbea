"""What every configuration is, and how it is written, read and explained."""

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thanos import registry
from thanos.errors import ConfigError
from thanos.names import nearest, nearest_beside
from thanos.storage import write_text

Fraction = Annotated[float, Field(ge=0, le=1)]
LARGEST, DEEPEST = 16 * 2**20, 20
"""Bytes of a YAML file that is read, and levels of what is nested in it."""
SHOWN = 200
"""Characters of a value that a message shows."""


class Settings(BaseModel):
    """Base of every configuration: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        for field in cls.model_fields.values():  # --help breaks lines by itself
            field.description = field.description and registry.listed(" ".join(field.description.split()))


def save(config: BaseModel, path: Path) -> None:
    """Write every setting, also the defaults, as YAML that ``--config`` reads back."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


class _Refused(yaml.composer.ComposerError):
    """YAML that is not read here."""


class _PlainLoader(yaml.SafeLoader):
    """Plain values, lists and mappings: a few lines of references to references would hold more than any memory."""

    _depth = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    mark = key.start_mark
                    raise _Refused(problem=f"{key.value!r} stands there twice", problem_mark=mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor} refers to another part of the file; write it out"
            raise _Refused(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
        if self._depth >= DEEPEST:
            raise _Refused(problem=f"it is more than {DEEPEST} levels deep", problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def read_yaml(path: Path, wanted: str = "settings like 'epochs: 10'") -> dict[str, Any]:
    """A YAML file's keys and values.

    Args:
        path: The file.
        wanted: What it should hold, for messages.
    Raises:
        ConfigError: if the file is missing, is no YAML, or holds no mapping.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else f"does not exist{nearest_beside(path)}"
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} {fault}.")
    if path.stat().st_size > LARGEST:
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} is larger than {LARGEST / 2**20:.0f} MB.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = "" if isinstance(error, _Refused) else " Put names with a colon, a bracket or a # in quotes."
        raise ConfigError(
            f"a YAML file of {wanted} is wanted; line {line} of {path} cannot be read as YAML: {error.problem}.{hint}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # also a date that is none
        first = str(error).replace("\n", " ")
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} cannot be read as YAML: {first}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} holds {_cut(repr(content))}.")
    return content


def explain(error: ValidationError) -> str:
    """pydantic's complaint as one line in the user's words: the setting, what it takes, what came."""
    faults: dict[str, tuple[list[str], Any]] = {}
    for fault in error.errors():
        where = ".".join(str(key) for key in fault["loc"] if not _is_union_branch(key))
        if not where or fault["type"] == "value_error":
            faults[fault["msg"].removeprefix("Value error, ")] = ([], None)
            continue
        if fault["type"] == "missing":
            faults[f"`{where}` is needed."] = ([], None)
            continue
        wanted = fault["msg"].removeprefix("Input should be ").split(", unable")[0]
        if fault["type"] == "literal_error" and isinstance(fault["input"], str):
            wanted += nearest(fault["input"], re.findall(r"'([^']+)'", wanted))
        faults.setdefault(where, ([], fault["input"]))[0].append(wanted)
    return " ".join(
        f"`{where}` should be {' or '.join(wanted)}; got {_shortly(came)}." if wanted else where
        for where, (wanted, came) in faults.items()
    )


def _shortly(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} ..."


def _is_union_branch(key: Any) -> bool:
    return isinstance(key, str) and (key.startswith(("constrained-", "literal[")) or key in ("int", "float"))
