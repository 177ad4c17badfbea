"""One thread for each training: the test workers share the cores, and threads that wait for each other spin."""

import os

import pytest


@pytest.fixture(scope="module")
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        yield
