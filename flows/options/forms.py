"""The options of a flow as a form in the Prefect UI: what is left empty is what it was.

A form that fills in every option's default would change everything at once. These forms show the defaults as
text and send what was filled in only; the rest is that of the configuration file or of the earlier run.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flows.options.pipeline import PipelineResources

Model = TypeVar("Model", bound=BaseModel)

ConfigName = Literal["default", "landmarks", "demo", "paper_vgg16", "paper_resnet101"]


@dataclass(frozen=True)
class Help:
    """The text beside a parameter in its form."""

    text: str

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core_schema), "description": self.text}


@dataclass(frozen=True)
class Changes(Help):
    """A model or None, as a form whose fields may be left empty."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        (model,) = (each for each in schema.get("anyOf", [schema]) if "$ref" in each)
        _empty(model, handler)
        return {**model, "description": self.text}


def _empty(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> None:
    """Say the defaults of a model, and of the models in it, instead of filling them in."""
    for property_ in handler.resolve_ref_schema(schema).get("properties", {}).values():
        for each in (property_, *property_.get("anyOf", ()), *property_.get("allOf", ())):
            if "$ref" in each and handler.resolve_ref_schema(each).get("properties"):
                _empty(each, handler)
        if "default" in property_:
            default = property_.pop("default")
            if not isinstance(default, dict):
                said = f"default {json.dumps(default, ensure_ascii=False)}"
                property_["description"] = f"{property_.get('description', '')} ({said})".strip()


def changed(model: Model, changes: BaseModel | None) -> Model:
    """`model` with the fields that were set in `changes`, however deep; raises what the model raises."""
    if changes is None:
        return model
    values = dict(model)
    for name in changes.model_fields_set & set(type(model).model_fields):
        old, new = values[name], getattr(changes, name)
        same = isinstance(old, BaseModel) and type(old) is type(new)
        values[name] = changed(old, new) if same else new
    return type(model).model_validate(values)


StoreField = Annotated[str, Help("folder of the store")]
FromRun = Annotated[str, Help("run whose results and other options it takes: its id, or latest")]
ForceStage = Annotated[bool, Help("compute this stage again, cached or not")]
BuildUpstream = Annotated[bool, Help("make missing upstream results instead of refusing")]
ResourcesField = Annotated[
    PipelineResources | None,
    Changes("what the run may use; empty: as before. None of it changes a result"),
]
