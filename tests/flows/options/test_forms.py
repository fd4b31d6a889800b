"""Forms of the deployments: what is left empty is what it was; defaults are said, not filled in."""

from importlib import import_module
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import Field, ValidationError

from flows.options.forms import changed
from flows.options.pipeline import PipelineOptions, PipelineResources, WhitenSections
from flows.options.stages import STAGES
from storage.keys.options import Options


class Inner(Options):
    size: int = Field(3, ge=1)
    name: str = "a"


class Outer(Options):
    inner: Inner = Inner()
    other: Inner | None = None
    flag: bool = False


def form(stage: str) -> dict[str, Any]:
    flow = getattr(import_module(f"flows.{stage}"), stage)
    found: dict[str, Any] = parameter_schema(flow).model_dump()
    return found


def models(schema: dict[str, Any], name: str) -> set[str]:
    """The definitions that are reached from one of them."""
    found: set[str] = set()
    todo = [name]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [ref.rsplit("/", 1)[1] for ref in references(schema["definitions"][name])]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for each in value.values() for ref in references(each)]
    return [ref for each in value for ref in references(each)] if isinstance(value, list) else []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_asks_for_a_run_and_its_own_options_and_fills_in_none(stage: str) -> None:
    schema = form(stage)
    assert set(schema["properties"]) == {
        "store", "from_run", "options", "resources", "force", "build_upstream",
    }  # fmt: skip
    assert schema["properties"]["from_run"]["default"] == "latest"
    assert all(each["description"] for each in schema["properties"].values())
    sections = schema["properties"]["options"]["$ref"].rsplit("/", 1)[1]
    for name in models(schema, sections):
        for label, property_ in schema["definitions"][name].get("properties", {}).items():
            assert "default" not in property_, f"{name}.{label}"


def test_defaults_are_said_ranges_and_choices_are_kept() -> None:
    definitions = form("whiten")["definitions"]
    positives = definitions["WhiteningsOptions"]["properties"]["positives"]
    assert positives["enum"] == ["m2", "m3", "m2+m3"]
    assert positives["description"].endswith('(default "m2+m3")')
    size = definitions["DescriptionOptions"]["properties"]["image_size"]
    assert size["minimum"] == 32 and "(default 480)" in size["description"]


def test_what_a_form_sends_changes_what_was_filled_in_and_nothing_else() -> None:
    before = Outer(inner=Inner(size=7, name="x"), flag=True)
    assert changed(before, None) == changed(before, Outer()) == before
    assert changed(before, Outer(inner={"size": 9})) == Outer(inner=Inner(size=9, name="x"), flag=True)
    assert changed(before, Outer(other={"size": 2})).other == Inner(size=2)
    assert changed(Outer(other=Inner(size=2)), Outer(other=None)).other is None
    assert changed(before, Outer(flag=False)) == Outer(inner=before.inner)


def test_sections_of_a_form_change_the_whole_they_are_part_of() -> None:
    whole = PipelineOptions(description={"image_size": 160}, training={"epochs": 3})
    sent = WhitenSections.model_validate({"whitening": {"positives": "m2"}})
    after = changed(whole, sent)
    assert isinstance(after, PipelineOptions)
    assert after.whitening.positives == "m2"
    assert after.model_copy(update={"whitening": whole.whitening}) == whole


def test_resources_of_a_form_keep_the_photographs_of_the_run() -> None:
    before = PipelineResources(photos="/photos", processes=3)
    assert changed(before, PipelineResources(batch_size=4)) == before.model_copy(update={"batch_size": 4})


def test_a_change_is_checked_as_a_whole() -> None:
    with pytest.raises(ValidationError, match="selection from a list has none"):
        changed(
            PipelineOptions(selection={"list": "somebody.csv"}),
            PipelineOptions(selection={"previous": "set.h5"}),
        )
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Outer(inner={"size": 0})
