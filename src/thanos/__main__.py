"""Where the command starts: Ctrl-C or SIGTERM while Python still imports ends it as quietly as later."""

import signal
import sys
from typing import Any, NoReturn

from thanos.errors import Terminated, describe_stop, of_memory


def run() -> None:
    """Import, and carry out the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from thanos.cli import main
    except KeyboardInterrupt as stop:
        _end(*describe_stop(stop))
    except (ImportError, MemoryError, OSError) as error:
        if (lacking := of_memory(error)) is None:
            raise
        _end(lacking, 2)
    main()


def _end(message: str, code: int) -> NoReturn:
    print(f"thanos: {message}", file=sys.stderr)
    sys.exit(code)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


if __name__ == "__main__":
    run()
