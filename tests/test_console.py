import io
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from thanos import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@contextmanager
def on_a_terminal():
    """Gives what a terminal that shows both streams received."""
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        yield terminal


def visible(received):
    """Of each line what a person sees in the end: the last piece that began at the line's start."""
    return [line.split("\r\x1b[K")[-1] for line in received.split("\n")]


def test_what_takes_a_while_goes_with_the_next_line():
    with on_a_terminal() as screen:
        console.show("starting")
        assert visible(screen.getvalue()) == ["starting ..."]
        console.show("reading")
        assert visible(screen.getvalue()) == ["reading ..."]
        console.say("done")
        console.say("again")
    assert visible(screen.getvalue()) == ["done", "again", ""]


def test_what_takes_a_while_goes_when_it_ends_or_fails():
    def fail():
        assert visible(screen.getvalue()) == ["heads ..."]
        raise ValueError("no")

    with on_a_terminal() as screen, pytest.raises(ValueError, match="no"), console.doing("heads"):
        fail()
    assert visible(screen.getvalue()) == [""]


def test_elsewhere_nothing_is_shown(capsys):
    console.show("starting")
    with console.doing("heads"):
        pass
    console.say("done")
    assert capsys.readouterr() == ("done\n", "")
