"""The values that decisions are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xprim_nb.scheduling.state import ModelState


def test_a_model_has_no_other_fields_than_its_own() -> None:
    """A change that names another is an error, and nothing is changed in place."""
    model = ModelState("numpy:a", ())
    assert model.changed(served=3, pinned=True) == replace(model, served=3, pinned=True)
    assert model == ModelState("numpy:a", ())
    with pytest.raises(TypeError, match="a model has no field colour"):
        model.changed(colour="red")
