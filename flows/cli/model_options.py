"""Options of a command that are fields of a model: type, default and help stand in the model alone.

Importing models takes longer than all else that `retrieval-sfm --help` does, so that these options are made
only for the command that is called.
"""

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature, signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
Command = TypeVar("Command", bound=Callable[..., None])


def with_fields(**sources: tuple[str, str]) -> Callable[[Command], Command]:
    """The command's parameters of these names are mappings of fields as their models take them; each field is
    an option. sources: model ('module:Model') and names of its fields, dotted, the last part the option's."""

    def decorate(command: Command) -> Command:
        parameters = signature(command).parameters.values()
        own = Signature([each for each in parameters if each.name not in sources])
        vars(command).update(__signature__=own, sources=sources)
        return command

    return decorate


def completed(command: Any) -> Any:
    """A command of typer's, with the options that are fields of models."""
    sources = getattr(command.callback, "sources", {})
    if not sources:
        return command
    options = [option for source, (model, names) in sources.items() for option in _options(model, names)]

    def called(**given: Any) -> None:
        values: dict[str, Any] = {}
        for source, (_, names) in sources.items():
            values[source] = {}
            for section, _, name in (each.rpartition(".") for each in names.split()):
                into = values[source].setdefault(section, {}) if section else values[source]
                into[name] = given.pop(name)
        command.callback.__wrapped__(**given, **values)

    own = signature(command.callback).parameters.values()
    vars(called)["__signature__"] = Signature([*own, *options])
    alone = typer.Typer(add_completion=False)
    alone.command(command.name, help=command.help)(called)
    return typer.main.get_command(alone)


def _options(model: str, names: str) -> Iterator[Parameter]:
    """What typer makes options of; numbers with commas stand for a tuple."""
    for section, _, name in (each.rpartition(".") for each in names.split()):
        whole = resolve_name(model)
        inside: Any = whole.model_fields[section].default if section else None
        field = (type(inside) if section else whole).model_fields[name]
        kind, default = field.annotation, getattr(inside, name, field.default)
        flag, shape = f"--{name.replace('_', '-')}", None
        if isinstance(default, tuple):
            kind, default = str, ",".join(f"{each:g}" for each in default)
            shape = "1,0.7071,0.5"
        option = typer.Option(flag, help=field.description, metavar=shape)
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """A model of what was given, None where nothing was. Raises ValueError with the first problem."""
    from pydantic import ValidationError

    from storage.keys.options import first_error

    try:
        return model.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise ValueError(first_error(error)) from error
