"""Plugin for a pytest process with TRITON_INTERPRET=1: the engine of every contract test is triton.

The variable must be set before Triton is first imported, hence the process of its own
(`test_triton_top_k.py` starts it).
"""

import pytest

from recjob.ranking import triton_search

ENGINE = pytest.mark.parametrize("engine", ["triton"]).mark


def pytest_configure() -> None:
    # The interpreter pays for each program, not for each pair.
    triton_search.PAIR_BLOCK = 1024  # type: ignore[misc]


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = metafunc.definition.own_markers
    own[:] = [
        ENGINE if mark.name == "parametrize" and mark.args[0] == "engine" else mark for mark in own
    ]
