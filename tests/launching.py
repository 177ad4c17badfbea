"""Trainings of several processes without a new Python for each: Lightning's launcher, whose processes are forked."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from types import SimpleNamespace

from pytorch_lightning.strategies.launchers import subprocess_script

CLONE_NEWNS = 0x20000
"""Of Linux: mounts of one's own."""


def mount_tmpfs(place, *options):
    """For this process and its children alone; ends it with 77 where that is not allowed."""
    mounts = (["--make-rprivate", "/"], ["-t", "tmpfs", *options, "tmpfs", str(place)])
    own = ctypes.CDLL(None).unshare(CLONE_NEWNS)
    if own != 0 or any(subprocess.run(["mount", *words], capture_output=True).returncode for words in mounts):
        sys.exit(77)


class Forked:
    """A fork of this process that calls ``work``; for the launcher in the place of a subprocess.Popen."""

    def __init__(self, work, env):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(env)
            _carry_out(work)

    def poll(self):
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


class Launched:
    """The first process of a training on several, or the only one, with what they print.

    Args:
        work: What each process does; in every one but the first, LOCAL_RANK is set at its start.
        folder: For what they print.
    """

    def __init__(self, work, folder):
        self._said = [folder / "printed.out", folder / "printed.err"]

        def first():
            os.setsid()  # so that all can be ended together
            for handle, file in zip((1, 2), self._said, strict=True):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), handle)
            subprocess_script.subprocess = SimpleNamespace(Popen=lambda command, env, cwd: Forked(work, env))
            work()

        self._first = Forked(first, {})
        self.pid = self._first.pid

    def end(self, timeout):
        """The first one's exit code and what was printed; none of the processes is left."""
        deadline = time.monotonic() + timeout
        while self._first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        out, err = (file.read_text() for file in self._said)
        return SimpleNamespace(returncode=self._first.poll(), stdout=out, stderr=err)


def _carry_out(work):
    code = 70
    try:
        sys.stdout, sys.stderr = (os.fdopen(handle, "w", closefd=False) for handle in (1, 2))
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
