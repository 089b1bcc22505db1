"""Every command line of the pages of doors is run by a test, here or with its other program."""

import re
import shlex
from pathlib import Path

import pytest

from textgen import train
from textgen.cli.app import main

from .test_readme import ROOT, TEXT, blocks

DOORS = ROOT / "docs" / "doors"
RUN_HERE = ("html.md", "transformers.md")
"""Pages whose lines need no other program."""

RUN_BY_PAGE = {
    "arpa.md": "integrations/test_arpa.py::test_the_page_does_what_it_says",
    "cluster.md": "integrations/test_datatrove.py::test_every_command_of_the_page_runs",
    "onnx.md": "integrations/test_onnx.py::test_the_page_does_what_it_says",
    "tables.md": "cli/test_score_table.py::test_every_command_of_the_page_of_tables_runs",
}
"""Tests that read a page, and run all of its lines that call textgen or python."""

_NODES = (
    "integrations/test_datatrove.py::"
    "test_two_nodes_of_ray_write_the_same_files_though_a_worker_is_killed"
)
_AGENTS = (
    "integrations/test_torchrun.py::"
    "test_two_agents_train_one_model_as_one_process_with_twice_the_batch_does"
)
_SERVER, _CLIENTS = "integrations/test_server.py", "integrations/test_server_clients.py"
_TRAIN = "-m textgen train mytext.txt --out checkpoints/mine --batch-size 32"
_RENDEZVOUS = "--rdzv-backend c10d --rdzv-id mine --rdzv-endpoint FIRST:29400"
RUN_BY_LINE = {
    "ray start --head": _NODES,
    "ray start --address HEAD:6379": _NODES,
    f"torchrun --nnodes 2 --nproc-per-node 1 {_RENDEZVOUS} {_TRAIN}": _AGENTS,
    f"torchrun --nnodes 1:2 --max-restarts 10 --nproc-per-node 1 {_RENDEZVOUS} {_TRAIN}": _AGENTS,
    "python -m textgen.integrations.lm_eval --model textgen"
    " --model_args checkpoint=checkpoints/mine --tasks blimp": (
        "integrations/test_lm_eval.py::test_the_command_of_the_harness_finds_the_model_by_name"
    ),
    "textgen serve checkpoints/mine": f"{_SERVER}::test_ctrl_c_finishes_what_runs_and_ends",
    "textgen serve checkpoints/mine --host 0.0.0.0 --port 9000 --api-key secret": (
        f"{_SERVER}::test_an_origin_and_a_key_can_be_allowed"
    ),
    "lm_eval --model local-completions --tasks blimp --model_args model=mine,"
    "base_url=http://127.0.0.1:8000/v1/completions,tokenizer_backend=remote": (
        f"{_CLIENTS}::test_lm_evaluation_harness_comes_to_the_verdicts_of_pairs"
    ),
    'llm -m mine "Once upon" -o seed 3 -o max_tokens 200 --key none': (
        f"{_CLIENTS}::test_llm_writes_the_text_of_sample"
    ),
    "curl http://127.0.0.1:8000/v1/completions"
    """ -d '{"prompt": "Once upon", "max_tokens": 100, "stream": true}'""": (
        f"{_SERVER}::test_ctrl_c_finishes_what_runs_and_ends"
    ),
}
"""Other lines, and tests that do the same with paths and numbers of their own."""


def lines(page: Path) -> list[str]:
    """The command lines of a page; those that install are of tests/test_distribution.py."""
    text = "".join(blocks(page, "(?:sh|text|console)")).replace("\\\n", " ")
    every = (" ".join(line.removeprefix("$ ").split()) for line in text.splitlines())
    return [line for line in every if line and not re.match(r"(pip|apt) install ", line)]


@pytest.mark.parametrize("page", sorted(DOORS.glob("*.md")), ids=lambda page: page.name)
def test_every_command_line_of_a_door_is_run_by_a_test(page: Path) -> None:
    for line in lines(page):
        of_page = line.startswith(("textgen ", "python ")) and page.name in RUN_BY_PAGE
        runs = of_page or line in RUN_BY_LINE or page.name in RUN_HERE
        assert runs, f"no test runs: {line}"


def test_the_tests_that_run_them_exist() -> None:
    for test in (*RUN_BY_PAGE.values(), *RUN_BY_LINE.values()):
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test
    assert RUN_BY_PAGE.keys() <= {page.name for page in DOORS.glob("*.md")}
    assert RUN_BY_LINE.keys() <= {line for page in DOORS.glob("*.md") for line in lines(page)}


def test_the_command_lines_of_doors_without_another_program_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mytext.txt").write_text(TEXT, encoding="utf-8")
    small = {"hidden_size": 8, "batch_size": 2, "sequence_length": 8}
    train("mytext.txt", out="checkpoints/mine", steps=1, threads=1, **small)
    for page in RUN_HERE:
        for line in lines(DOORS / page):
            program, *arguments = shlex.split(line)
            assert program == "textgen" and main(arguments) == 0, line
            capsys.readouterr()
            assert main(arguments) == 1
            assert f"OUT exists ({arguments[4]})" in capsys.readouterr().err
