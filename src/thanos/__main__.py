"""Where the command starts: Ctrl-C while Python still imports ends it as quietly as later."""

import sys


def run() -> None:
    """Import, and carry out the command line."""
    try:
        from thanos.cli import main
    except KeyboardInterrupt:
        print("thanos: stopped.", file=sys.stderr)
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
