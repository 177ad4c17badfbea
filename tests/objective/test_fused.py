"""The Triton kernels: right in Triton's interpreter, compilable for GPUs that are not here, right on one that is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from thanos.objective import fused  # noqa: E402

SHARED = {75: 65_536, 80: 166_912, 86: 101_376, 90: 232_448}
"""Bytes of shared memory that a program may have, by compute capability (CUDA C++ programming guide)."""
WHICH = ("cross-view", "not cross-view")
"""Two halves of fused_cases.py, for two processes."""


def run_cases(which, **more):
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "fused_cases.py", "-W", "ignore"]
    done = subprocess.run(
        [*command, "-o", "python_files=fused_cases.py", "-k", which],
        capture_output=True, text=True, cwd=Path(__file__).parent, env=os.environ | more, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "[100%]" in done.stdout


@pytest.mark.parametrize("which", WHICH)
def test_right_in_the_interpreter(which):
    run_cases(which, TRITON_INTERPRET="1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("which", WHICH)
def test_right_on_the_gpu(which):
    run_cases(which, TRITON_INTERPRET="0")


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
