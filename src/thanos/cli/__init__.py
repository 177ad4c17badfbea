"""The command line: one file a command, which parses, calls the library and prints. Imports torch only to work."""

import inspect
from importlib import import_module

from thanos.cli.app import app, main, run_command, unbroken

__all__ = ["app", "main", "run_command"]

COMMANDS = (
    "demo", "train", "check", "embed", "transfer", "geometry", "split", "discover", "robust", "classify", "export",
    "report", "compare", "data", "bench", "reproduce", "theory",
)  # fmt: skip
"""A file of this folder each."""
for _name in COMMANDS:
    import_module(f"thanos.cli.{_name}")

for _each in (app, *app.subapps):
    for _command in _each.subapps:
        if inspect.isfunction(_command.default_command):
            _command.default_command.__doc__ = unbroken(_command.default_command.__doc__ or "")
