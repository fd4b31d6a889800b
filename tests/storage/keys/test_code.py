import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import code as source
from storage.keys.code import UnknownModule, closure, code_digest, code_digests, source_digest

ROOT = Path(__file__).resolve().parents[3]
CODE = '''
"""Module."""
import os
LIMIT = 0.2
"""What LIMIT is."""

@decorate(1)
class A(Base):
    """A."""
    rate: float = 0.5

    async def run(self, *args, deep=None, **rest):
        """Run."""
        return f"{self.rate:.{deep}f} {rest!r}" if args else [x for x in rest]

def empty():
    """Only a docstring."""
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Module."""', '"""Another\n\nmodule."""'),
        ('"""Module."""', ""),
        ('"""What LIMIT is."""', "# what it is"),
        ('    """A."""\n', ""),
        ('"""Run."""', '"""Run it."""  # and more'),
        ("LIMIT = 0.2", "LIMIT = (  # a comment\n    0.2\n)"),
        ("LIMIT = 0.2", "\n\n\nLIMIT  =  0.20"),
        ('f"{self.rate:.{deep}f} {rest!r}"', 'f"{self.rate:.{deep}f}" f" {rest!r}"'),
        ('f"{self.rate:.{deep}f} {rest!r}"', "f'{self.rate:.{deep}f} {rest!r}'"),
        ('"""Only a docstring."""', '"""Nothing."""'),
    ],
)
def test_inert_edits(old, new):
    assert old in CODE
    assert source_digest(CODE.replace(old, new)) == source_digest(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 0.2", "LIMIT = 0.3"),
        ("LIMIT = 0.2", "LIMIT = '0.2'"),
        ("@decorate(1)", "@decorate(2)"),
        ("@decorate(1)\n", ""),
        ("(Base)", "(Other)"),
        ("(Base)", ""),
        ("rate: float = 0.5", "rate: int = 0.5"),
        ("rate: float = 0.5", "rate: float"),
        ("async def", "def"),
        ("deep=None", "deep=0"),
        ("deep=None", "deep"),
        ("*args", "args"),
        ("{rest!r}", "{rest!s}"),
        ("{deep}f", "{deep}e"),
        ("[x for x in rest]", "(x for x in rest)"),
        ("[x for x in rest]", "[x for x in rest if x]"),
        ("import os", "import os as o"),
        ("if args", "if not args"),
        ("return f", "yield f"),
    ],
)
def test_every_code_edit_counts(old, new):
    assert old in CODE
    assert source_digest(CODE.replace(old, new)) != source_digest(CODE)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = None", "x = 0"), ("x = 1", "x = 1.0"), ("x = 1", "x = True"), ("x = ''", "x = b''")],
)
def test_constants_of_different_type_differ(one, other):
    assert source_digest(one) != source_digest(other)


@given(st.lists(st.integers(0, CODE.count("\n") - 1), max_size=5))
def test_comments_anywhere(places):
    lines = CODE.split("\n")
    for place in places:
        if not lines[place].lstrip().startswith('"""'):
            lines[place] += "  # comment"
    assert source_digest("\n".join(lines)) == source_digest(CODE)


def test_the_same_on_every_python_version():
    """Spelled out: a version that adds or empties syntax-tree fields must not change it."""
    assert source._dump(ast.parse("def f(a, b=1): return a")) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a'),arg(arg='b')],defaults=[Constant(1)]),"
        "body=[Return(value=Name(id='a'))])])"
    )
    function = ast.parse("def f(): pass").body[0]
    before = source._dump(function)
    function.type_params = []  # Python 3.12 has this field, 3.11 has not
    function._fields = (*function._fields, "type_params")
    assert source._dump(function) == before


def test_digest_follows_the_file(make_package):
    name = make_package({"a": "x = 1"})
    module = f"{name}.a"
    before = code_digests(module)
    assert set(before) == {module}
    path = source.source_path(module)
    path.write_text("x = 1  # comment")
    assert code_digests(module) == before
    path.write_text("x = 2  # comment")
    os.utime(path, ns=(1, time.time_ns()))
    assert code_digests(module) != before
    assert code_digests("") == {}


def test_a_new_import_is_followed_at_once():
    """Of a module of ours, and nothing is imported on the way."""
    found = code_digests("retrieval.evaluation.evaluate")
    assert set(found) == set(closure("retrieval.evaluation.evaluate"))
    assert {"retrieval.benchmarks.geometry", "retrieval.evaluation.bootstrap"} <= set(found)
    code = (
        "import sys; from storage.keys.code import code_digest; code_digest('retrieval.networks.network'); "
    )
    code += "print(sorted(sys.modules.keys() & {'torch', 'sfm', 'retrieval', 'retrieval.networks'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_an_edit_that_adds_an_import_adds_its_module(make_package, monkeypatch):
    name = make_package({"a": "x = 1", "b": "y = 1"})
    monkeypatch.setattr(source, "FIRST_PARTY", (name,))
    assert closure(f"{name}.a", (name,)) == (f"{name}.a",)
    path = source.source_path(f"{name}.a")
    path.write_text(f"from {name} import b")
    assert closure(f"{name}.a", (name,)) == (f"{name}.a", f"{name}.b")


def test_relative_imports_are_refused(make_package):
    name = make_package({"a": "from . import b", "b": ""})
    with pytest.raises(UnknownModule, match="line 1: a relative import"):
        closure(f"{name}.a", (name,))


def test_a_key_costs_microseconds():
    code_digests("storage.pictures.decoding")
    best = min(_seconds(lambda: code_digests("storage.pictures.decoding")) for _ in range(20))
    assert best < 0.5e-3


def _seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def test_unknown_module():
    with pytest.raises(UnknownModule, match=r"sfm\.nothing_like_it"):
        code_digest("sfm.nothing_like_it")
    with pytest.raises(UnknownModule):
        closure("no_such_package.module")


PACKAGE = {
    "top": """
import os, numpy
from typing import TYPE_CHECKING
import typing
import PACKAGE.plain
from PACKAGE import member
from PACKAGE.sub import inner as renamed
from PACKAGE.relative import thing
from PACKAGE.constants import LIMIT
if TYPE_CHECKING:
    from PACKAGE import typed
if typing.TYPE_CHECKING:
    import PACKAGE.typed
else:
    import PACKAGE.otherwise
def late():
    from PACKAGE import lazy
    run([python, "-m", "PACKAGE.program", "x"])
    run_child("PACKAGE.child:work", 3)
    importlib.import_module("PACKAGE.dynamic")
    every("PACKAGE.folder.*")
    log("PACKAGE.typed")
""",
    "plain": "import PACKAGE.second",
    "second": "import PACKAGE.top  # a circle",
    "sub/inner": "from PACKAGE.relative import thing\nfrom PACKAGE.sub import sibling",
    "sub/sibling": "",
    "folder/one": "import PACKAGE.sub.sibling",
    "folder/two": "",
    **dict.fromkeys(
        [
            "member",
            "relative",
            "constants",
            "typed",
            "otherwise",
            "lazy",
            "program",
            "child",
            "dynamic",
            "unrelated",
        ],
        "",
    ),
}


def test_closure(make_package):
    name = make_package(PACKAGE)
    expected = (
        "child constants dynamic folder.one folder.two lazy member otherwise plain program relative second "
        "sub.inner sub.sibling top"
    )
    assert closure(f"{name}.top", (name,)) == tuple(f"{name}.{m}" for m in expected.split())
    assert closure(f"{name}.unrelated", (name,)) == (f"{name}.unrelated",)
    assert closure(f"{name}.top", ("sfm",)) == (f"{name}.top",)


def test_closure_has_a_package_only_where_its_init_holds_code(make_package):
    name = make_package(
        {"a": "from PACKAGE.sub import inner", "sub/inner": "", "sub/__init__": "REGISTRY = {}"}
    )
    assert closure(f"{name}.a", (name,)) == (f"{name}.a", f"{name}.sub", f"{name}.sub.inner")
