"""Descriptions of the tools: valid schemas, in three dialects, closed where the seed's shapes are."""

from __future__ import annotations

import json
from typing import Any, cast

import jsonschema
import pytest

from xprim_nb.agents import tool_schemas
from xprim_nb.agents.schemas import TOOLS
from xprim_nb.errors import ConfigError

_NAMES = [
    "manage_cache",
    "initialize_model_cache",
    "validate_cache_integrity",
    "refresh_model_cache",
    "cleanup_cache_storage",
    "get_cache_status",
    "repair_corrupted_cache",
    "ai_ps",
    "ai_plan",
    "generate",
]
# The seed's result shapes, by tool.
_RESULTS = {
    "initialize_model_cache": {"success", "cache_path", "manifest", "validation_report"},
    "validate_cache_integrity": {
        "model_id", "validation_timestamp", "overall_status", "checks", "recommendations",
    },
    "refresh_model_cache": {"success", "updated_files", "validation_report", "rollback_available"},
    "cleanup_cache_storage": {"freed_space_gb", "removed_models", "optimization_report"},
    "get_cache_status": {"total_models", "total_size_gb", "health_summary", "recommendations"},
    "repair_corrupted_cache": {"repairable", "repair_actions", "success", "remaining_issues"},
}  # fmt: skip


def test_the_tools_are_the_seeds() -> None:
    """One dispatcher, the seed's six and the engine's, each with a description and two schemas without references."""
    tools = tool_schemas()
    assert [each["name"] for each in tools] == _NAMES
    for tool in tools:
        assert len(tool["description"]) > 40
        for key in ("input_schema", "output_schema"):
            jsonschema.Draft202012Validator.check_schema(tool[key])
            assert tool[key]["type"] == "object"
            assert "$ref" not in json.dumps(tool[key])
    assert {each["name"] for each in tools if not each["changes"]} == {
        "validate_cache_integrity",
        "get_cache_status",
        "ai_ps",
        "ai_plan",
    }


@pytest.mark.parametrize("name", _RESULTS)
def test_results_have_the_seeds_keys(name: str) -> None:
    """Each result has the seed's keys, all of them required and no others allowed."""
    tool = next(each for each in tool_schemas() if each["name"] == name)
    result, error = tool["output_schema"]["anyOf"]
    assert set(result["properties"]) == set(result["required"]) == _RESULTS[name]
    assert result["additionalProperties"] is False
    if name == "validate_cache_integrity":
        checks = result["properties"]["checks"]
        assert set(checks["required"]) == {"file_integrity", "freshness", "completeness", "dependencies"}
        freshness = checks["properties"]["freshness"]
        assert set(freshness["required"]) == {"status", "age_days", "recommended_refresh"}
    if name == "initialize_model_cache":
        manifest = result["properties"]["manifest"]
        assert set(manifest["properties"]) - set(manifest["required"]) == {"expiry_date"}
    assert set(error["properties"]) == {"error"}


def test_dialects() -> None:
    """The same tools, as OpenAI's and as Anthropic's interfaces want them."""
    plain, openai, anthropic = (tool_schemas(each) for each in ("plain", "openai", "anthropic"))
    for one, other, third in zip(plain, openai, anthropic, strict=True):
        assert other["type"] == "function"
        assert other["function"]["name"] == one["name"] == third["name"]
        assert other["function"]["parameters"] == one["input_schema"] == third["input_schema"]
        assert set(third) == {"name", "description", "input_schema"}
    with pytest.raises(ConfigError, match="no dialect"):
        tool_schemas(cast("Any", "cobol"))


def test_inputs_are_held() -> None:
    """A wrong payload does not fit its schema; a right one does."""
    by_name = {each["name"]: jsonschema.Draft202012Validator(each["input_schema"]) for each in tool_schemas()}
    validate = by_name["validate_cache_integrity"]
    assert validate.is_valid({"model_id": "demo/tiny v1", "depth": "full"})
    assert not validate.is_valid({"model_id": "demo/tiny v1", "depth": "deep"})
    assert not validate.is_valid({"model": "demo/tiny v1"})
    dispatch = by_name["manage_cache"]
    assert dispatch.is_valid({"type": "status"})
    assert dispatch.is_valid({"type": "repair", "payload": {"model_id": "demo/tiny v1"}})
    assert not dispatch.is_valid({"type": "explode"})
    assert len(TOOLS) == 6
