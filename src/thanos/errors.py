"""The few exceptions a user meets. Each message says what was wanted, what came and what to do.

Messages name settings as Python does, in backticks: ```batch```, ```batch=64```. The command line turns them into its
flags.
"""

import re


class ThanosError(Exception):
    """Anything the user can mend; the command prints its one line and exits with ``exit_code``."""

    exit_code = 2


class ConfigError(ThanosError, ValueError):
    """A setting that cannot be used, alone or together with another."""


class DataError(ThanosError, ValueError):
    """Images or labels that cannot be read or do not fit together."""


class MissingLabels(DataError):
    """An evaluation needs labels that this data set does not carry."""


class OutputError(ThanosError, ValueError):
    """The output folder holds something else, or the disk cannot take the result."""


class NextBatchLost(DataError):
    """Training cannot go on for want of its next batch; between two steps, so its state can be saved."""


class Interrupted(ThanosError):
    """Training was stopped by a signal after its state was saved; ``exit_code`` is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what it was writing is taken away."""


def describe_stop(stop: KeyboardInterrupt) -> tuple[str, int]:
    """The line that a stopped command ends with, and its exit code."""
    again = "the same command does it again, from what was finished"
    return (f"stopped by SIGTERM; {again}.", 143) if isinstance(stop, Terminated) else (f"stopped; {again}.", 130)


_MEMORY = re.compile(
    "failed to map segment|(cannot|can't) allocate memory|not enough memory|out of memory", re.IGNORECASE
)


def of_memory(error: BaseException) -> str | None:
    """The line for what came up for want of memory, be it while a library was loaded; None: for something else."""
    if not isinstance(error, MemoryError) and not _MEMORY.search(str(error)):
        return None
    reason = str(error).split("\n")[0] or type(error).__name__
    return (
        f"there is too little memory ({reason}). End other programs, or allow this one more (ulimit -v, a container)."
    )
