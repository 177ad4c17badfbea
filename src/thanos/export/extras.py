"""The packages without which a form cannot be written."""

from importlib.util import find_spec

from thanos.errors import ConfigError

NEEDED = {"onnx": ("onnx", "onnxscript"), "parquet": ("pyarrow",)}
"""By the name of the form, which is that of the extra too."""


def check_extra(form: str) -> None:
    """Raise ConfigError if a package is not installed that writes this form."""
    if absent := [package for package in NEEDED.get(form, ()) if find_spec(package) is None]:
        raise ConfigError(f"`to={form}` needs {absent[0]}; install it with `pip install thanos-repr[{form}]`.")
