"""`--help` of every command: it has examples, and what they say can be typed."""

import re
import shlex

import click
import pytest

from deploy.cli import main

# Full name -> command or group of commands, the top one too.
COMMANDS: dict[str, click.Command] = {}


def _collect(name: str, command: click.Command) -> None:
    COMMANDS[name] = command
    if isinstance(command, click.Group):
        for more, below in command.commands.items():
            _collect(f"{name} {more}", below)


_collect("warmstart", main)


def help_of(command: click.Command) -> str:
    return command.get_help(click.Context(command, info_name="x", terminal_width=200))


def examples_in(text: str) -> list[list[str]]:
    """The words after `warmstart` of each line that begins so, after variables or sudo, up to a redirection."""
    examples = []
    for line in text.splitlines():
        if match := re.match(r"\s+(?:sudo |[A-Z_]+=\S+ )*warmstart (?=[a-z-])(.*)", line):
            words = shlex.split(match[1])
            examples.append(words[: words.index(">")] if ">" in words else words)
    return examples


def parse(words: list[str]) -> str:
    """Lets click's parser read the words, as it does before it calls anything; gives the command's name."""
    context = main.make_context("warmstart", list(words))
    name = "warmstart"
    while isinstance(context.command, click.Group):
        given = [*context._protected_args, *context.args]
        found, command, rest = context.command.resolve_command(context, given)
        assert command is not None
        name = f"{name} {found}"
        context = command.make_context(found, rest, parent=context)
    return name


def test_all_commands_are_known():
    assert {"warmstart run", "warmstart doctor", "warmstart backbone list", "warmstart kubeflow schedule set"} <= set(
        COMMANDS
    )
    assert len(COMMANDS) >= 22


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example_of_itself(name):
    examples = examples_in(help_of(COMMANDS[name]))
    assert examples, f"{name} has no line that begins with `warmstart `"
    own = name.split()[1:]
    assert any([word for word in example if not word.startswith("-")][: len(own)] == own for example in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_typed(name):
    for example in examples_in(help_of(COMMANDS[name])):
        parsed = parse(example)
        assert not isinstance(COMMANDS[parsed], click.Group)
        assert "..." not in example, "a person would have to fill it in"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is(name):
    command = COMMANDS[name]
    first = (command.help or "").partition("\n\n")[0]
    assert len(first) > 10
    assert first.rstrip().endswith((".", "\n", ":")) or isinstance(command, click.Group)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[-1]} has no help text"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal_of_a_hundred_columns(name):
    command = COMMANDS[name]
    text = command.get_help(click.Context(command, info_name=name, terminal_width=98))
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--config"],
        ["run"],
        ["run", "--config", "x", "--no-such-option"],
        ["rollback", "first"],
        ["kubeflow", "submit", "--config", "x", "--image", "y", "more"],
        ["no-such-command"],
    ],
)
def test_what_cannot_be_typed_is_found(words):
    with pytest.raises(click.UsageError):
        parse(words)
