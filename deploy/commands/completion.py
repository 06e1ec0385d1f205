"""The command `warmstart completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script with which your shell completes the commands, options and configurations of warmstart.

    \b
    Examples:
      warmstart completion bash > ~/.local/share/bash-completion/completions/warmstart
      warmstart completion zsh > ~/.zfunc/_warmstart
      warmstart completion fish > ~/.config/fish/completions/warmstart.fish

    bash picks it up the next time it starts, and so does zsh if ~/.zfunc is in its fpath; fish at once.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Not `kind.source()`, which starts a bash to ask its version, and writes into the script's output if there is none.
    made = kind(context.find_root().command, {}, "warmstart", "_WARMSTART_COMPLETE")
    click.echo(made.source_template % made.source_vars())
