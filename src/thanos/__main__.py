"""Where the command starts: Ctrl-C or SIGTERM while Python still imports ends it as quietly as later."""

import signal
import sys
from typing import Any

from thanos.errors import Terminated, describe_stop


def run() -> None:
    """Import, and carry out the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from thanos.cli import main
    except KeyboardInterrupt as stop:
        message, code = describe_stop(stop)
        print(f"thanos: {message}", file=sys.stderr)
        sys.exit(code)
    main()


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


if __name__ == "__main__":
    run()
