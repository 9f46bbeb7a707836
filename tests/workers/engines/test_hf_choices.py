"""What a model will be held in is known before there is a worker."""

from __future__ import annotations

from typing import Any

import pytest

from xprim_nb.workers.engines.hf_choices import check_settings, held_dtype


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"dype": "auto"}, "'dype' is unknown"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"quantization": "2bit"}, "quantization is '2bit'"),
        ({"threads": -1}, "threads is -1"),
        ({"threads": True}, "threads is True"),
        ({"max_loras": 0}, "max_loras is 0"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    """Each setting that is unknown or out of its range is named."""
    with pytest.raises(ValueError, match=named):
        check_settings(settings)


def test_what_is_offered_is_accepted() -> None:
    """All settings together, and none, are fine."""
    check_settings({})
    check_settings({"dtype": "bfloat16", "quantization": "4bit", "threads": 2, "max_loras": 3})


@pytest.mark.parametrize(
    ("wanted", "device", "config", "stored", "held"),
    [
        ("auto", "cpu", {"dtype": "float16"}, "F16", "float32"),
        ("auto", "cuda:0", {"dtype": "float16"}, "F16", "float16"),
        ("auto", "cpu", {"torch_dtype": "bfloat16"}, "BF16", "bfloat16"),
        ("auto", "cpu", {"text_config": {"dtype": "bfloat16"}}, "BF16", "bfloat16"),
        ("auto", "mps", {}, "BF16", "bfloat16"),
        ("auto", "cpu", {}, "F64", "float32"),
        ("auto", "cpu", {}, "", "float32"),
        ("auto", "cuda:0", {"dtype": "float8_e4m3fn"}, "F8_E4M3", "float32"),
        ("float16", "cpu", {"dtype": "bfloat16"}, "BF16", "float16"),
    ],
)
def test_the_dtype_is_the_published_one_where_it_can_be(
    wanted: str, device: str, config: dict[str, Any], stored: str, held: str
) -> None:
    """A wish is followed; `auto` keeps what was published, but for float16 on the CPU."""
    assert held_dtype(wanted, device, config, stored) == held
