"""Options that are fields of models: as the models have them, made for the command that is called."""

from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from flows.cli.main import Commands
from flows.cli.model_options import checked, with_fields
from storage.keys.options import Options


class Inner(Options):
    size: int = Field(480, ge=32, description="longer side in px")
    scales: tuple[float, ...] = Field((1.0, 0.5), description="factors of it")
    kind: Literal["plain", "odd"] = Field("plain", description="which one")
    draft: bool = Field(False, description="not so exact")


class Outer(Options):
    inner: Inner = Field(Inner(size=1024), description="the inner ones")
    limit: int | None = Field(None, ge=1, description="at most; none: all")


HERE = f"{__name__}:Outer"
app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
called: list[Any] = []


@app.command()
@with_fields(options=(HERE, "inner.size inner.scales inner.kind inner.draft"), more=(HERE, "limit"))
def command(
    options: dict[str, Any],
    more: dict[str, Any],
    name: Annotated[str, typer.Argument(help="a name")],
    loud: Annotated[bool, typer.Option("--loud", help="louder")] = False,
) -> None:
    """What it does."""
    called.append((name, loud, options, more))


@app.command()
def other() -> None:
    """Another."""


def call(*arguments: object) -> Any:
    called.clear()
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "120"})


def test_defaults_are_the_models_and_a_section_has_its_own() -> None:
    assert call("command", "a").exit_code == 0
    inner = {"size": 1024, "scales": "1,0.5", "kind": "plain", "draft": False}
    assert called == [("a", False, {"inner": inner}, {"limit": None})]


def test_what_is_given_is_of_the_fields_type() -> None:
    call("command", "a", "--size", 64, "--scales", "1,2", "--kind", "odd", "--draft", "--limit", 3, "--loud")
    inner = {"size": 64, "scales": "1,2", "kind": "odd", "draft": True}
    assert called == [("a", True, {"inner": inner}, {"limit": 3})]
    for wrong in (("--size", "x"), ("--kind", "even"), ("--no-draft",)):
        assert call("command", "a", *wrong).exit_code == 2 and not called


def test_help_says_what_the_model_says() -> None:
    shown = " ".join(call("command", "--help").output.split())
    assert "What it does." in shown and "a name" in shown
    for words in (
        "longer side in px [default: 1024]",
        "factors of it [default: 1,0.5]",
        "at most; none: all",
    ):
        assert words in shown
    assert "What it does." in call("--help").output


def test_a_model_is_made_of_what_was_given_or_says_what_is_wrong() -> None:
    assert checked(Outer, {"limit": None, "inner": {"size": 32}}) == Outer(inner=Inner(size=32))
    with pytest.raises(ValueError, match=r"^inner\.size: Input should be greater than or equal to 32$"):
        checked(Outer, {"inner": {"size": 3}})
