"""Writes `commands.md` and `configuration.md`, from the help texts and from the types of the configuration.

python -m docs.generate            writes them
python -m docs.generate --check    writes nothing; exit code 1 if they are not what would be written
"""

from __future__ import annotations

import datetime
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.cli import main as warmstart
from pipeline.config import CONFIGS_FOLDER, Config, Section

FOLDER = Path(__file__).parent
_MARK = "<!-- Written by `make docs`; change the {source}, not this page. -->\n"
_COLUMNS = 98
# Stands for a space at which no line ends.
_SPACE = "\0"
_WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    datetime.date: "day",
    type(None): "empty",
}


def pages() -> dict[str, str]:
    """Name of the file -> what is in it."""
    return {"commands.md": commands(), "configuration.md": configuration()}


# ---- commands


def commands() -> str:
    """The help texts of all commands, as a terminal of a hundred columns shows them."""
    top = click.Context(warmstart, info_name="warmstart", terminal_width=_COLUMNS, **warmstart.context_settings)
    lines = [_MARK.format(source="help texts"), "# Commands\n"]
    lines.append("What `--help` says, of every command.\n")
    for context in _contexts(top):
        lines += [f"## `{context.command_path}`\n", "```text", context.command.get_help(context).rstrip(), "```\n"]
    return "\n".join(lines)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Of a command, and of all below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            yield from _contexts(click.Context(command, parent=context, info_name=name))


# ---- configuration


def configuration() -> str:
    """Every key of the configuration: its type, range, default and description."""
    lines = [_MARK.format(source="descriptions in `pipeline/config/`"), "# Configuration\n"]
    lines += [
        _wrapped(
            "A configuration is YAML with the keys below, or one of the ready-made ones by its name: "
            "`warmstart run --config NAME|FILE`. `--set KEY=VALUE` sets one key for one call, the value in YAML: "
            "`--set image.size=224`, `--set serving.exports=[tflite,onnx]`. Keys that are left out have their "
            "defaults; unknown keys and values out of range are refused before anything runs."
        ),
        "",
        "Ready-made, in `pipeline/configs`:\n",
        *_ready_made(),
        "",
        _wrapped(
            "Your own file needs `name`, `task.schema_name` and `data.sources`. Empty means YAML's `null`: "
            "`--set training.gradient_clip_norm=null`."
        ),
        "",
    ]
    lines += _section(Config, ())
    return "\n".join(lines)


def _ready_made() -> list[str]:
    listed = []
    for file in sorted(CONFIGS_FOLDER.glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        about = text.partition("\n")[0].lstrip("# ")
        sets = yaml.safe_load(text)
        keys = ", ".join(f"`{key}={value}`" for key, value in _leaves(sets) if key != "name" and value)
        listed.append(_wrapped(f"- `{file.stem}`: {about} It sets {keys}.", "  "))
    return listed


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def _section(section: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """The keys of a section, and then the sections in it."""
    lines = [f"## `{'.'.join(path)}`\n"] if path else ["## At the top\n"]
    inherited = (BaseModel.__doc__, Section.__doc__)
    about = section.__doc__
    if about and about not in inherited and path:
        lines += [_wrapped(" ".join(about.split())), ""]
    below = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below.append((inner, (*path, name)))
        else:
            lines += [_key(".".join((*path, name)), field)]
    if lines[-1].startswith("- "):
        lines.append("")
    for inner, inner_path in below:
        lines += _section(inner, inner_path)
    return lines


def _key(key: str, field: FieldInfo) -> str:
    # What it may be besides empty, with its limits, comes first.
    may_be_empty = type(None) in get_args(field.annotation)
    kind = _kind(field.annotation).removesuffix(" or empty").removesuffix(",")
    limits = ", ".join(filter(None, [_limits(field.metadata), "or empty" if may_be_empty else ""]))
    default = "required" if field.is_required() else f"default {_value(field.get_default(call_default_factory=True))}"
    first = f"- **`{key}`**: {kind}{', ' + limits if limits else ''}; {default}."
    return _wrapped(f"{first} {field.description or ''}".rstrip(), "  ")


def _kind(annotation: Any, plural: bool = False) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = _limits(inner[1:])
        return _kind(inner[0], plural) + (f" {limits}" if limits else "")
    if origin is Literal:
        return _one_of([f"`{value}`" for value in inner])
    if origin in (Union, types.UnionType):
        return _one_of([_kind(one, plural) for one in inner])
    if origin is list:
        return f"list of {_kind(inner[0], plural=True)}"
    if origin is dict:
        return f"mapping of {_kind(inner[0], plural=True).replace('texts', 'names')} to {_kind(inner[1], plural=True)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys as in `runtime.every_step`"
    word = _WORDS[annotation]
    return f"{word}s" if plural and annotation in (int, float, str, datetime.date) else word


def _one_of(kinds: list[str]) -> str:
    if len(kinds) == 1:
        return kinds[0]
    together = any(" or " in kind or " of " in kind for kind in kinds)
    return f"{', '.join(kinds[:-1])}{',' if together else ''} or {kinds[-1]}"


def _limits(metadata: Any) -> str:
    """Range or form that a value must have."""
    said = {}
    for limit in metadata:
        for name in ("ge", "gt", "le", "lt", "pattern"):
            if (value := getattr(limit, name, None)) is not None:
                said[name] = f"{value:,}" if isinstance(value, int | float) else value
    words = []
    if "ge" in said and "le" in said:
        words.append(f"{said['ge']} to {said['le']}")
    else:
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            words += [f"{word} {said[name]}"] if name in said else []
    words += [f"of the form `{said['pattern']}`"] if "pattern" in said else []
    return ", ".join(words)


def _value(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or value in ([], {}, ""):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _wrapped(text: str, indent: str = "") -> str:
    """In lines of at most 120 characters, unless a word is longer; what is in backticks is one word."""
    kept = re.sub("`[^`]+`", lambda code: code[0].replace(" ", _SPACE), text)
    wrapped = textwrap.fill(kept, width=120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return wrapped.replace(_SPACE, " ")


def main(arguments: list[str]) -> int:
    """Writes the pages, or looks whether they are as they would be written.

    Returns:
      the exit code.
    """
    wrong = []
    for name, text in pages().items():
        file = FOLDER / name
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            continue
        wrong.append(name)
        if arguments != ["--check"]:
            file.write_text(text, encoding="utf-8")
    if arguments == ["--check"]:
        for name in wrong:
            print(f"docs/{name} is not what `make docs` writes; call it, and commit what it wrote")
        return 1 if wrong else 0
    print(f"written: {', '.join(wrong)}" if wrong else "nothing has changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
