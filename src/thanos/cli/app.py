"""The command ``thanos``: its parameters, its configuration file, errors as one line. Imports torch only to work."""

import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)
from cyclopts.config import Dict
from pydantic import ValidationError

from thanos import console, registry
from thanos.config import (
    AutoTrainConfig,
    DemoConfig,
    DiscoverConfig,
    LaunchConfig,
    RobustConfig,
    RunConfig,
    SourceConfig,
    SuggestConfig,
    Table3Config,
    TrainConfig,
    TransferConfig,
    explain,
    read_yaml,
)
from thanos.console import plain
from thanos.errors import ConfigError, ThanosError, describe_stop, of_memory
from thanos.names import nearest

app = App(
    name="thanos",
    help="Learn image representations that keep the classes nobody labelled.",
    help_epilogue="First: `thanos demo`, or on your images `thanos discover photos/ -o runs/first`. `thanos COMMAND "
    "-h` shows examples, `thanos COMMAND --help` all options. --config FILE reads settings from YAML (flags beside it "
    "win); --debug shows tracebacks.",
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
)
Flat = Parameter(name="*")
Embedded = Annotated[
    Path,
    Parameter(
        help="A run directory, its last.ckpt, a .safetensors file or a timm model's name (both with --data), or a "
        "file of vectors (.npz, .npy, .csv, .parquet), with --labels where they have none."
    ),
]
Out = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Of = Annotated[SourceConfig, Parameter(name="*", show_default=False)]
Thumbnails = Literal["embedded", "linked"]
"""Where those of a page are: in it, or in files beside it."""
WHERE = Group("Over many machines", sort_key=2)
TRAINING = Group("Training, for images (what is left open is chosen, with a reason)", sort_key=1)
RUN = Group("How it is carried out (of these --threads alone changes the outcome)", sort_key=2)


_MODELS = (
    AutoTrainConfig, DemoConfig, DiscoverConfig, LaunchConfig, RobustConfig, RunConfig, SourceConfig, SuggestConfig,
    Table3Config, TrainConfig, TransferConfig,
)  # fmt: skip
_SETTINGS = {
    "classifier", "cub", "images", "masks", "names", "out", "places", "seed", "table", "to", "work",
    *(name for model in _MODELS for name in model.model_fields),
}  # fmt: skip
"""What is given by a flag of its name."""
_SETTING = re.compile(r"`([a-z][a-z_]*(?:\.[A-Za-z_]+)?)(?:=([^`]*))?`")


def as_flags(text: str) -> str:
    """A line of the library with its settings as flags.

    Example:
        >>> as_flags("use a smaller `batch`, or `views.crop_scale=0.2`")
        'use a smaller --batch, or --views.crop-scale 0.2'
    """

    def flag(found: re.Match[str]) -> str:
        if found[1].partition(".")[0] not in _SETTINGS:  # a name that somebody gave, which has backticks
            return found[0]
        return f"--{found[1].replace('_', '-')}" + ("" if found[2] is None else f" {quote(found[2])}")

    return _SETTING.sub(flag, text)


def say(line: str = "") -> None:
    """Print one line at once; settings in it as flags."""
    console.say(as_flags(line))


def unbroken(text: str) -> str:
    """A docstring whose paragraphs and parameters are one line each: --help breaks lines by itself."""
    head, mark, parameters = inspect.cleandoc(text).partition("Parameters\n----------\n")
    head = "\n\n".join(" ".join(paragraph.split()) for paragraph in head.split("\n\n"))
    lines: list[str] = []
    for line in parameters.splitlines():
        if line.startswith("    ") and lines[-1].startswith("    "):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return head + mark + "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command; exits 0, 2 for what the user can mend, 130 or 143 when stopped by a signal."""
    # Threads that wait for each other fall asleep sooner: on cores with other work their spinning slows steps tenfold.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [t for t in tokens if t != "--debug"]
    try:
        if tokens and tokens[0] in app and not {"-h", "--help", "--version"} & set(tokens):
            console.show("starting")  # seconds of imports
        sys.exit(run_command(tokens))
    except ThanosError as error:
        _fail(str(error), debug, error.exit_code)
    except ValidationError as error:
        _fail(explain(error), debug, 2)
    except KeyboardInterrupt as stop:
        message, code = describe_stop(stop)
        _fail(message, debug, code)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        message, code = _of_the_machine(error)
        _fail(message, debug, code)


def _of_the_machine(error: Exception) -> tuple[str, int]:
    """The line and the code for what none of our errors says; what is no fault of the machine is one of thanos."""
    if (lacking := of_memory(error)) is not None:
        return lacking, 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}. Mend the path or its permissions, or free space.", 2
    return f"{type(error).__name__}: {error} (a fault of thanos; --debug shows where).", 1


def run_command(tokens: list[str]) -> int:
    """Parse and carry out one command line."""
    console.TYPED[:] = tokens
    if tokens and tokens[0] in ("help", "version"):
        tokens = [*tokens[1:2], f"--{tokens[0]}"]
    if tokens[-1:] == ["-h"] and (short := _help_in_short(tokens[:-1])):
        for line in short.splitlines():
            say(line)
        return 0
    tokens, settings = _take_config(tokens)
    if settings and tokens[:1] == ["discover"] and settings.get("method") in registry.methods():
        raise ConfigError(
            "--config names settings of thanos train; thanos discover takes images as its argument and settings of "
            f"training as options: thanos discover {settings.get('data', 'PHOTOS')} --train-method {settings['method']}"
        )
    _check_words(tokens)
    app.config = [_AnyKeys(settings, source="--config")] if settings else []
    try:
        app(tokens, print_error=False, exit_on_error=False, result_action="return_value")
    except UnusedCliTokensError as error:
        token = (error.unused_tokens or [""])[0]
        known = [name for each in (app, *app.subapps) for name in each]
        is_data = registry.dataset(token) is not None or Path(token).exists()
        hint = f" (images are named by --data {token})" if is_data else ""
        raise ConfigError(
            f"{token!r} is not taken here{hint or nearest(token, known)}. See thanos {tokens[0]} --help."
        ) from error
    except MissingArgumentError as error:
        if (odd := _unknown_flag(tokens)) is not None:
            raise ConfigError(odd) from error
        if error.argument is None:
            raise ConfigError(_one_line(error)) from error
        name = error.argument.name
        what = f"{name} takes a value; none came"
        if name not in tokens:
            what = f"{name if error.argument.index is None else name.lstrip('-').upper()} is missing"
        raise ConfigError(f"{what}. For examples: thanos {tokens[0]} -h") from error
    except CycloptsError as error:
        of_a_value = isinstance(error, CoercionError | cyclopts.ValidationError)
        raise ConfigError((of_a_value and _unknown_flag(tokens)) or _one_line(error)) from error
    return 0


def _help_in_short(tokens: list[str]) -> str:
    """What a command does, and its examples; empty for one that consists of others, or that there is not."""
    chain, apps, _ = app.parse_commands(tokens)
    command = apps[-1].default_command
    if not chain or command is None or not apps[-1].help_epilogue:
        return ""
    does = " ".join(inspect.cleandoc(command.__doc__ or "").partition("\n\n")[0].split())
    name = " ".join(["thanos", *chain])
    return f"{name}: {does}\n\n{apps[-1].help_epilogue}\n\nAll options: {name} --help"


def _check_words(tokens: list[str]) -> None:
    """Raise ConfigError for what cyclopts sees too late: a misspelt option of thanos, or one of several experiments."""
    first, second = (*tokens, "", "")[:2]
    options = ("--help", "--version", "--config", "--debug")
    if first.startswith("--") and first not in options:
        raise ConfigError(f"{first} is no option of thanos{nearest(first, options)}. See thanos --help.")
    if not first or first not in app:
        return
    commands = [name for name in app[first] if not name.startswith("-")]
    if (
        app[first].default_command is not None
        and commands
        and second
        and not second.startswith("-")
        and second not in commands
    ):
        raise ConfigError(
            f"{second!r} is no command of thanos {first}{nearest(second, commands)}; it has {', '.join(commands)}."
        )


def _unknown_flag(tokens: list[str]) -> str | None:
    """What is wrong with the first flag that the command does not have; None where it has all of them."""
    chain, apps, rest = app.parse_commands(tokens)
    command = " ".join(["thanos", *chain])
    known = [name for argument in apps[-1].assemble_argument_collection() for name in argument.names]
    for token in rest:
        flag = token.partition("=")[0].replace("_", "-")
        above = flag.partition(".")[0]  # of --group-weight.NAME any name will do, of --views.flip those that it has
        free = above in known and not any(name.startswith(f"{above}.") for name in known)
        if flag.startswith("--") and not free and flag not in (*known, "--help"):
            return f"{flag} is no option of {command}{nearest(flag, known)}. See {command} --help."
    return None


class _AnyKeys(Dict):
    """Settings of whichever command was called; cyclopts' own leaves keys out that are also commands: data, robust."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        settings = self.data
        for command in reversed(commands):
            settings = {command: settings}
        Dict(settings, source=self.source)(app, commands, arguments)


def _take_config(tokens: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Lift ``--config FILE`` out of the command line; flags beside it win over the file."""
    settings: dict[str, Any] = {}
    rest = []
    stream = iter(tokens)
    for token in stream:
        if token == "--config" or token.startswith("--config="):
            name = token.partition("=")[2] if "=" in token else next(stream, None)
            if not name:
                raise ConfigError("--config takes a YAML file, like the config.yaml of a run.")
            content = read_yaml(Path(name))
            if odd := [key for key in content if not isinstance(key, str)]:
                raise ConfigError(f"--config names settings; {name} has {odd[0]!r} in the place of a name.")
            settings = {k: v for k, v in content.items() if v is not None}
        else:
            rest.append(token)
    return rest, settings


def _one_line(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        return explain(error.__cause__)
    text = re.sub(r" Available commands: .*", " See thanos --help.", str(error), flags=re.DOTALL)
    return " ".join(text.replace('"[', '"').replace("][", ".").replace(']" from', '" from').split())


def _fail(message: str, debug: bool, code: int) -> None:
    console.clear()
    if debug:
        traceback.print_exc()
    print(f"thanos: {plain(as_flags(message))}", file=sys.stderr)
    sys.exit(code)
