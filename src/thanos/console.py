"""What a person types and reads on a terminal: one line at a time, with nothing in it that a terminal would obey."""

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, line and paragraph separators, marks that turn the direction of writing, halves of characters."""


def plain(text: str) -> str:
    r"""The text in one line, with control characters written out.

    A name comes from a folder, a table or a file, and may hold anything: codes that move the cursor, erase what stood
    there or set the window's title, line breaks that make a second line look like ours, or bytes that are no text.

    Example:
        >>> plain("cat\x1b[2J\n")
        'cat\\x1b[2J\\n'
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def say(line: str = "") -> None:
    """Print one line at once."""
    clear()
    print(plain(line), flush=True)


_passing = False
"""Whether the terminal's last line is one that the next takes the place of."""


def show(what: str) -> None:
    """Show on a terminal what takes a while, until the next line; elsewhere nothing."""
    global _passing
    clear()
    if sys.stderr.isatty():
        print(f"{plain(what)} ...", end="", file=sys.stderr, flush=True)
        _passing = True


def clear() -> None:
    """Take away what ``show`` left."""
    global _passing
    if _passing:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        _passing = False


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Show on a terminal what takes a while, until it has ended; elsewhere nothing."""
    show(what)
    try:
        yield
    finally:
        clear()


TYPED: list[str] = []
"""Behind ``thanos``, where the command line was used."""


def command() -> str:
    """What was typed."""
    return f"thanos {shlex.join(TYPED)}" if TYPED else shlex.join(sys.argv)
