"""The kernel that tests share: who gets it after one that failed."""

from __future__ import annotations

from .conftest import Kernels


def test_a_kernel_that_is_left_in_a_cell_is_lent_to_nobody_else() -> None:
    """The next test has a fresh one, the one after it the same: it was given back."""
    with Kernels() as kernels:
        left = kernels.lend()
        left.start("import time; time.sleep(600)")
        assert not left.is_idle
        fresh = kernels.lend()
        assert fresh is not left
        assert not left.manager.is_alive()
        assert fresh.run("print(6 * 7)").text() == "42\n"
        assert fresh.is_idle
        kernels.give_back()
        assert kernels.lend() is fresh
