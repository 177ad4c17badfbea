"""The Triton kernels: right in Triton's interpreter, compilable for GPUs that are not here, right on one that is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

triton = pytest.importorskip("triton")

from fused_cases import CASES, forced  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from thanos.objective import fused  # noqa: E402

SHARED = {75: 65_536, 80: 166_912, 86: 101_376, 90: 232_448}
"""Bytes of shared memory that a program may have, by compute capability (CUDA C++ programming guide)."""


@pytest.fixture(scope="session")
def interpreted(tmp_path_factory):
    """What went wrong with each case in a process of its own: Triton has to be imported for its interpreter.

    Whichever worker asks first carries all of them out, for the others too.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    found = shared / "fused_cases.json"
    with FileLock(shared / "fused_cases.lock"):
        if not found.exists():
            command = [sys.executable, "-W", "ignore", "fused_cases.py", str(found)]
            more = {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=Path(__file__).parent, env=os.environ | more, timeout=280
            )
            assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(found.read_text())


@pytest.mark.parametrize("case", CASES)
def test_right_in_the_interpreter(interpreted, case):
    assert interpreted[case] == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES if torch.cuda.is_available() else ["any"])
def test_right_on_the_gpu(case):
    with forced():
        CASES[case]()


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("dim", [16, 128])
@pytest.mark.parametrize("count", [512, fused.MANY])
def test_compile_into_what_a_gpu_holds(capability, dim, count, recwarn):
    """To machine code, by the assembler that comes with Triton; a launch that asks for more memory would be refused."""
    chosen = fused.blocks(dim, large=capability >= 90, count=count)
    options = {key: chosen.pop(key) for key in ("num_warps", "num_stages")}
    arrays = dict.fromkeys(("x", "y", "out", "known", "known_points", "weights", "dx"), "*fp32")
    arrays |= {"labels": "*i64", "starts": "*i32", "ends": "*i32"}
    for kernel, flags in (
        (fused._sums, {"ITSELF": True}),
        (fused._gradient, {"ITSELF": False, "ATTRACT": True, "AMONG_ALL": False, "CONDITIONAL": True}),
        (fused._gradient, {"ITSELF": True, "ATTRACT": False, "AMONG_ALL": True, "CONDITIONAL": False}),
    ):
        constants = {**flags, **chosen, "PRECISION": "tf32x3"}
        kinds = {name: arrays.get(name, "constexpr" if name in constants else "i32") for name in kernel.arg_names}
        built = triton.compile(
            ASTSource(kernel, kinds, constexprs=constants), target=GPUTarget("cuda", capability, 32), options=options
        )
        assert built.asm["cubin"].startswith(b"\x7fELF")
        assert built.metadata.shared <= SHARED[capability]
