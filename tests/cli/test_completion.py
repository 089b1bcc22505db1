"""Completion, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = """
source "$SCRIPT"
complete -p textgen > /dev/null
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p textgen | sed 's/.*-F \\([^ ]*\\).*/\\1/') textgen "${COMP_WORDS[COMP_CWORD]}"
[ ${#COMPREPLY[@]} -gt 0 ] && printf '%s\\n' "${COMPREPLY[@]}"
complete -p textgen
"""
ZSH = """
autoload -U compinit; compinit -u -d "$HOME/dump"
source "$SCRIPT"
print -l ${_comps[textgen]}
words=("$@")
_describe() { print -l ${(P)4} ${(P)3}; }
_arguments() { eval "$_TYPER_COMPLETE_ARGS" ; }
env _TEXTGEN_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[*]}" textgen
"""
FISH = """
source $SCRIPT
complete -C "$argv"
"""


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    return str(request.param)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, shell: str) -> dict[str, str]:
    """The script that ``textgen --show-completion`` prints, and a command to complete."""
    folder = tmp_path_factory.mktemp("completion")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    here = os.environ | {"PATH": path, "HOME": str(folder), "SCRIPT": str(folder / "script")}
    here |= {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        ["textgen", "--show-completion", shell],
        env=here,
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "script").write_text(shown.stdout, encoding="utf-8")
    return here


def completed(shell: str, environment: dict[str, str], line: str, folder: Path) -> str:
    """What the shell offers at the end of the line."""
    program = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    words = [line] if shell == "fish" else [*line.split(), *([""] if line.endswith(" ") else [])]
    command = [shell, "-c", program, *([] if shell == "fish" else [shell]), *words]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    return done.stdout


def test_commands_options_and_choices_are_offered(
    shell: str, environment: dict[str, str], tmp_path: Path
) -> None:
    assert "train" in completed(shell, environment, "textgen tr", tmp_path)
    assert "--learning-rate" in completed(shell, environment, "textgen train --learn", tmp_path)
    assert "memory" in completed(shell, environment, "textgen plot mem", tmp_path)


def test_the_names_of_checkpoints_and_texts_are_completed_as_files(
    shell: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    offered = completed(shell, environment, "textgen sample checkp", tmp_path)
    if shell == "bash":  # without a word of ours it falls back to files
        assert "-o default" in offered
    elif shell == "fish":
        assert "checkpoints/" in offered
    else:
        assert "_files" in offered
