"""The tool that runs the documentation reads its pages as they are meant."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "docs" / "_tools" / "run.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    specification = importlib.util.spec_from_file_location("docs_run", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["docs_run"] = module  # where dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def test_the_commands_of_a_block_are_its_lines_with_a_prompt(tool: Any) -> None:
    body = "$ textgen a \\\n    --b c\nprinted\n$ textgen d\n"
    assert list(tool.commands(body, "$ ")) == ["textgen a --b c", "textgen d"]
    assert list(tool.commands("# said\n\na  # b\n", "")) == ["a  # b"]
    assert list(tool.typed(body)) == [
        ("$ textgen a \\\n    --b c\n", "printed\n"),
        ("$ textgen d\n", ""),
    ]


@pytest.mark.parametrize(
    ("line", "short"),
    [
        (
            "textgen train a.txt --budget 10m --out b | tail -1",
            "textgen train --steps 3 --batch-size 2 --sequence-length 8 a.txt --out b | tail -1",
        ),
        ("textgen train --out b --resume --epochs 9", "textgen train --steps 6 --out b --resume"),
        (
            "textgen compare a.txt --batch-size 4",
            "textgen compare --steps 3 --sequence-length 8 a.txt --batch-size 4",
        ),
        (
            "torchrun --nproc-per-node 2 -m textgen train a.txt --model lstm+ngram",
            "torchrun --nproc-per-node 2 -m textgen train --steps 3 --batch-size 2"
            " --sequence-length 8 a.txt --model lstm+ngram",
        ),
        ("textgen train a.txt --model ngram", "textgen train a.txt --model ngram"),
        ("textgen score b a.txt", "textgen score b a.txt"),
    ],
)
def test_a_training_is_made_short(tool: Any, line: str, short: str) -> None:
    assert tool.shortened(line) == short


def test_how_a_block_runs_is_read_from_its_comment(tool: Any) -> None:
    how = tool.How.read('skip="no such machine" exit=2 head=4 exact')
    assert how == tool.How(skip="no such machine", exit=2, head=4, exact=True)
    with pytest.raises(tool.PageError, match="tial"):
        tool.How.read("tial=2")


def test_of_a_long_output_the_head_and_the_tail_are_shown(tool: Any) -> None:
    printed = "a  \nb\nc\nd\ne\n"
    assert tool.displayed(printed, tool.How()) == "a\nb\nc\nd\ne\n"
    assert tool.displayed(printed, tool.How(head=1, tail=2)) == "a\n...\nd\ne\n"
    assert tool.displayed(printed, tool.How(head=2, tail=2)) == "a\nb\nc\nd\ne\n"


@pytest.fixture
def write(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a page with this text, and returns what has become of it."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "LINKED", ())
    monkeypatch.setattr(tool, "provenance", lambda page: "*Output captured here.*")

    def write(text: str, write: bool = True) -> str:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        tool.run_page(page, write)
        return page.read_text(encoding="utf-8")

    return write


PAGE = """\
<!-- setup
echo one > a.txt
-->

<!-- run: exact -->
```console
$ cat a.txt
{one}$ echo two
two
```

=== "Tab"

    ```sh
    pip install nothing-of-this-name
    cp a.txt b.txt
    ```

    ```console
    $ cat b.txt
    {tab}```

```python
print(open("b.txt").read())
```

```text title="output"
{printed}```
"""


def test_output_is_written_into_the_page_where_it_belongs(write: Any) -> None:
    after = write(PAGE.format(one="", tab="", printed="old\n"))
    shown = PAGE.format(one="one\n", tab="one\n    ", printed="one\n")
    assert after == f"{shown}\n*Output captured here.*\n"
    assert write(after) == after


def test_an_exact_output_must_be_that_of_the_page(tool: Any, write: Any) -> None:
    with pytest.raises(tool.PageError, match=r"page.md:5: the page shows\nnone"):
        write(PAGE.format(one="none\n", tab="one\n    ", printed="one\n"), write=False)


@pytest.mark.parametrize(
    "block",
    ["```sh\nexit 3\n```\n", "<!-- run: exit=2 -->\n```console\n$ true\n```\n"],
)
def test_a_command_that_ends_otherwise_than_the_page_says_fails(
    tool: Any, write: Any, block: str
) -> None:
    with pytest.raises(tool.PageError, match="ended with"):
        write(block)


def test_a_skipped_block_is_left_as_it_is(write: Any) -> None:
    page = '<!-- run: skip="no such machine" -->\n```sh\nexit 3\n```\n'
    assert write(page, write=False) == page


def test_what_runs_in_the_background_ends_with_the_page(write: Any, tmp_path: Path) -> None:
    waits = "for i in $(seq 100); do [ -s pid ] && break; sleep 0.1; done"
    block = "<!-- run: background -->\n```sh\nsh -c 'echo $$ > pid; exec sleep 60'\n```\n"
    write(f"{block}\n```sh\n{waits}\ncp pid {tmp_path}/pid\n```\n", write=False)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
