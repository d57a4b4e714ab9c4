"""Pages of the reference that are made from the code: public names, options of the command line, texts of errors."""

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer
from sphinx.pycode import ModuleAnalyzer

from fgseg import errors

__all__ = ["command_page", "commands_page", "error_messages", "errors_page", "module_page", "other_sentences", "write"]

ROOT = Path(__file__).parents[1]
SURFACE: dict[str, list[str]] = json.loads((ROOT / "tests" / "data" / "api_surface.json").read_text(encoding="utf-8"))
"""The public names of every public module."""
# Of the bases, those of fgseg are described here; matplotlib writes `set` into every class of figures.
MEMBERS = "   :members:\n   :inherited-members: Mapping, FigureBase, Figure, Artist, tuple\n   :exclude-members: set\n"

ERRORS = frozenset(errors.__all__)
NO_ADVICE = re.compile(r"[{}<]|'self'|[.\]]$")
"""Styles, policies and pages of the web, and the texts of options, which end in a full stop."""


def write(folder: Path) -> None:
    """Write all pages of the reference that are made from the code."""
    pages = {f"{module}.rst": module_page(module) for module in SURFACE}
    pages |= {"commands.rst": commands_page(), "errors.rst": errors_page()}
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.rst")) - {folder / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def module_page(module: str) -> str:
    """The page of a public module: its docstring, a table of its names, and each name once.

    A name is described where the shortest path to it is: an error is `fgseg.ImageError`, not `fgseg.errors.ImageError`.
    """
    names = [name for name in SURFACE[module] if f"{module}.{name}" not in SURFACE]
    here = [name for name in names if _home(module, name) == module]
    listed = [name if name in here else f"{_home(module, name)}.{name}" for name in names if _has_own_doc(module, name)]
    table = "".join(f"   {name}\n" for name in listed)
    parts = [_heading(module, "="), f".. automodule:: {module}\n   :no-members:\n"]
    if table:
        parts.append(f".. autosummary::\n   :nosignatures:\n\n{table}")
    return "\n".join([*parts, *(_entry(module, name) for name in here if not name.startswith("__"))])


def _home(module: str, name: str) -> str:
    """The module that describes a name."""
    value = getattr(importlib.import_module(module), name)
    places = [other for other in SURFACE if getattr(sys.modules.get(other), name, None) is value]
    named = [other for other in places if name in SURFACE[other]]
    return min(named, key=lambda other: (other.count("."), other != module, other))


def _has_own_doc(module: str, name: str) -> bool:
    """Whether a name is a function or a class; a constant would be summarised by the docstring of its type."""
    value = getattr(importlib.import_module(module), name)
    return inspect.isclass(value) or inspect.isroutine(value)


def _entry(module: str, name: str) -> str:
    path, value = f"{module}.{name}", getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {path}\n" + ("" if kind == "exception" else MEMBERS)
    if inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    shown = repr(value)
    value_line = f"   :value: {shown}\n" if len(shown) < 80 and "<" not in shown else ""
    text = "\n".join(f"   {line}".rstrip() for line in _constant_doc(module, name))
    return f".. py:data:: {path}\n{value_line}\n{text}\n"


def _constant_doc(module: str, name: str) -> list[str]:
    """The docstring below a constant, in the module that defines it."""
    for place in (module, *sorted(other for other in sys.modules if other.startswith("fgseg."))):
        try:
            docs = ModuleAnalyzer.for_module(place).find_attr_docs()
        except Exception:  # a module without a source
            continue
        if ("", name) in docs and getattr(sys.modules[place], name, None) is getattr(sys.modules[module], name):
            return list(docs["", name])
    return []


def commands_page() -> str:
    """The options of every command, as typer knows them."""
    from fgseg.commands.main import app

    group: Any = typer.main.get_command(app)
    about = (
        "``fgseg COMMAND --help`` prints the same in a terminal. Data goes to stdout; progress and errors go to "
        "stderr. Exit status: 0 done, 1 failed, 2 wrong usage, 3 finished but some images failed, 130 interrupted.\n"
    )
    return "\n".join([_heading("Command line", "="), about, *(command_page(n, c) for n, c in group.commands.items())])


def command_page(name: str, command: Any) -> str:
    """The section of one command: what it does, its usage, and its options in the order of its help."""
    program = f"fgseg {name}"
    context = command.make_context(program, [], resilient_parsing=True)
    usage = " ".join([program, *command.collect_usage_pieces(context)])
    records = (parameter.get_help_record(context) for parameter in command.params if parameter.name != "help")
    about = " ".join(inspect.cleandoc(command.help or "").split())
    start = [_heading(program, "-"), f".. program:: {program}\n", about, f"\n.. code-block:: none\n\n   {usage}\n"]
    return "\n".join([*start, *(_option(*record) for record in records if record)])


def _option(names: str, help_text: str) -> str:
    """An option as its help describes it: "--mode [a|b]", then what it does and its default."""
    names = re.sub(r"<list\[(\w+)\]>", r"<\1>", names) if names.startswith("-") else names.split()[0]
    return f".. option:: {names}\n\n   {_escaped(' '.join(help_text.split()))}\n"


def _escaped(text: str) -> str:
    """Text in which asterisks are asterisks, and single backticks are code."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "``").replace("|", "\\|")


def errors_page() -> str:
    """The texts of all errors, by class."""
    found = error_messages()
    parts = [
        _heading("Texts of errors", "="),
        "What fgseg says when it refuses something, by the class of the error. The list is made from the code. ``…`` "
        "stands for a value: a name, a path, what was given. On the command line an option stands in the place of an "
        "argument: ``--threshold`` for ``threshold``. :doc:`/howto/troubleshooting` says what to do about those that "
        "need more than a sentence.\n",
    ]
    for name in errors.__all__:
        messages = sorted({text for error, text in found if error == name})
        if messages:
            lines = "\n".join(f"- ``{text}``" for text in messages)
            about = inspect.getdoc(getattr(errors, name))
            parts.append(f"{_heading(name, '-')}\n{about} See `fgseg.{name}`.\n\n{lines}\n")
    others = "\n".join(f"- ``{text}``" for text in other_sentences())
    about = "Warnings, failures of the hub, files of other kinds, and ends of the messages above."
    return "\n".join([*parts, f"{_heading('Other sentences', '-')}\n{about}\n\n{others}\n"])


def error_messages() -> list[tuple[str, str]]:
    """(class, text) of every error that fgseg raises with a text of its own, and of its checks of arguments."""
    found = [
        (node.func.id, _text(node.args[0]))
        for node in _calls()
        if isinstance(node.func, ast.Name) and node.func.id.endswith("Error") and node.args
    ]
    return [(error, text) for error, text in [*found, *_refusals()] if sum(map(str.isalpha, text)) > 12]


def _refusals() -> Iterator[tuple[str, str]]:
    """(class, text) of the checks in `fgseg._checks`, for each argument that a module checks under its name."""
    for call in _calls():
        match call:
            case ast.Call(func=ast.Name(id=str(check)), args=[ast.Constant(value=str(argument)), *_]):
                if check.startswith("check_") and check in _functions():
                    given = {word.arg: _text(word.value) for word in call.keywords if word.arg}
                    given = {"hint": ""} | given | {"name": argument}
                    for node in ast.walk(_functions()[check]):
                        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                            yield node.func.id, _text(node.args[0], given)


def other_sentences() -> list[str]:
    """Warnings and other sentences on the terminal, and sentences of advice that are given to an error elsewhere.

    Advice has a semicolon before it.
    """
    known = " ".join(text for error, text in error_messages() if error in ERRORS)
    found = {text for error, text in error_messages() if error not in ERRORS}  # they end up in those of a file
    for tree in _trees():
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in parts | docstrings:
                text = _text(node)
                if "; " in text and not NO_ADVICE.search(text):
                    found.add(re.sub(r"%(\.\d+)?[sdg]", "…", text))
    found |= {_text(node.args[0]) for node in _calls() if _is_said(node)}
    return sorted(text for text in found if sum(map(str.isalpha, text)) > 20 and text not in known)


def _is_said(call: ast.Call) -> bool:
    """Whether a call prints a line, warns, or raises an error whose class is a variable."""
    match call:
        case ast.Call(func=ast.Name(id="complain" | "kind"), args=[_, *_]):
            return True
        case ast.Call(func=ast.Attribute(attr="warn" | "BadParameter"), args=[_, *_]):
            return True
    return False


@cache
def _trees() -> list[ast.Module]:
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "fgseg").rglob("*.py"))]


def _calls() -> Iterator[ast.Call]:
    return (node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Call))


@cache
def _functions() -> dict[str, ast.FunctionDef]:
    return {node.name: node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _text(node: ast.expr, given: Mapping[str, str] = MappingProxyType({})) -> str:
    """A message on one line, with the values that are given, and … in the place of any other."""
    return " ".join("".join(_pieces(node, given)).split()).replace("`", "'")


def _pieces(node: ast.expr, given: Mapping[str, str]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str() | int() | float() as value):
            yield str(value)
        case ast.FormattedValue(value=value):
            yield from _pieces(value, given)
        case ast.JoinedStr(values=values):
            for value in values:
                yield from _pieces(value, given)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _pieces(left, given)
            yield from _pieces(right, given)
        case _:
            yield _value(node, given)


def _value(node: ast.expr, given: Mapping[str, str]) -> str:
    """A part of a message that is not written in it: a value that is given, or what a function makes of such values."""
    match node:
        case ast.Name(id=name) if name in given:
            return given[name]
        case ast.IfExp(test=ast.Name(id=name), body=body, orelse=other) if name in given:
            return "".join(_pieces(body if given[name] else other, given))
        case ast.Call(func=ast.Name(id=name), args=arguments) if text := _returned(name):
            names = (parameter.arg for parameter in _functions()[name].args.args)
            bound = zip(names, ("".join(_pieces(value, given)) for value in arguments), strict=False)
            return "".join(_pieces(text, dict(bound)))
    return "…"


def _returned(name: str) -> ast.expr | None:
    """What a function returns, if that is one text, written as such in its last line."""
    function = _functions().get(name)
    returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)] if function else []
    if function and len(returns) == 1 and isinstance(function.returns, ast.Name) and function.returns.id == "str":
        match function.body[-1]:
            case ast.Return(value=ast.JoinedStr() | ast.IfExp() as text):
                return text
    return None


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"
