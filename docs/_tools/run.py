"""Runs the commands and the Python of the documentation, and captures what they print.

    python docs/_tools/run.py [PAGE ...]            short runs: make docs-test
    python docs/_tools/run.py --write [PAGE ...]    in full, and writes their output to the page

Each page runs from top to bottom in a folder of its own that looks like a clone of the project.
What runs:

* blocks of ``console``: the lines that begin with ``$``, and below each what it printed, standard
  output and error together, eighty columns wide; a line that ends with a backslash goes on;
* blocks of ``sh``: every line, whose output is not shown; lines of ``pip install`` are left out,
  because the environment has everything;
* blocks of ``python``, in one interpreter for a page; what a block printed stands in a block of
  ``text`` with ``title="output"`` directly below it;
* comments that begin with ``<!-- setup``: lines of ``sh`` that the reader does not see.

A comment ``<!-- run: ... -->`` before a block says how: ``skip="reason"``, ``exit=2`` (of its last
command), ``head=4 tail=8`` (how many lines of each output are shown), ``exact`` (the output must be
that of the page, wherever it runs; not made short), ``full`` (not made short), ``background``
(its commands run on until the page ends).

With ``--write``, a picture of the page is replaced by the file of its name that the commands have
left, and the last line of the page says where its output comes from.

Made short, a run of training has three updates, whatever its budget.
"""

import argparse
import dataclasses
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LONGEST = 900  # seconds of one command
LINKED = ("corpora", "docs", "benchmarks", "README.md")
BLOCK = re.compile(
    r"^(?: *<!-- run: (?P<how>.*?) -->\n+)?"
    r"(?P<indent> *)```(?P<language>console|sh|python)\b[^\n`]*\n"
    r"(?P<body>.*?)^(?P=indent)```$"
    r'(?P<output>\n+(?P=indent)```text title="output"\n(?P<printed>.*?)^(?P=indent)```$)?'
    r"|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
CAPTURED = re.compile(r"\n*^\*Output captured .*\n?\Z", re.MULTILINE)
SHORT = {"--steps": "3", "--batch-size": "2", "--sequence-length": "8"}
WORKER = """
import contextlib, io, json, sys, traceback
space, answers = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(json.loads(line), "<page>", "exec"), space)
        except BaseException:
            error = traceback.format_exc()
    answers.write(json.dumps([printed.getvalue(), error]) + "\\n")
    answers.flush()
"""


class PageError(Exception):
    """A block did something other than the page says."""


@dataclass(frozen=True)
class How:
    """What the comment before a block asks for."""

    skip: str = ""
    exit: int = 0
    head: int | None = None
    tail: int = 0
    exact: bool = False
    full: bool = False
    background: bool = False

    @classmethod
    def read(cls, comment: str) -> "How":
        given: dict[str, str | int | bool] = {}
        for word in shlex.split(comment):
            name, _, value = word.partition("=")
            kinds = {field.name: field.type for field in dataclasses.fields(cls)}
            if name not in kinds:
                raise PageError(f"unknown word in a comment: {name}")
            given[name] = True if not value else int(value) if value.isdecimal() else value
        return cls(**given)  # type: ignore[arg-type]


class Session:
    """The folder and the interpreter of one page."""

    def __init__(self, folder: Path, short: bool):
        self.folder, self.short = folder, short
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        bin = Path(sys.executable).parent
        self.environment = os.environ | {
            "PATH": f"{bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "MPLBACKEND": "agg",
        }
        self.python: subprocess.Popen[str] | None = None
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, line: str) -> None:
        """Run one command line until the page ends."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.started.append(process)

    def command(self, line: str, code: int, full: bool = False) -> str:
        """Run one command line and return what it printed."""
        if self.short and not full:
            line = shortened(line)
        process = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
        )
        printed = process.stdout.decode("utf-8", "replace").replace(f"{self.folder}/", "")
        if process.returncode != code:
            raise PageError(
                f"{line}\nended with {process.returncode}, not {code}:\n{printed[-3000:]}"
            )
        return printed

    def execute(self, source: str, full: bool = False) -> str:
        """Run a block of Python and return what it printed."""
        if self.python is None:
            self.python = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self.python.stdin is not None and self.python.stdout is not None
        if self.short and not full:
            source = re.sub(r"budget=\"[^\"]+\"", "steps=3", source)
        self.python.stdin.write(json.dumps(source) + "\n")
        self.python.stdin.flush()
        answer = self.python.stdout.readline()
        if not answer:
            raise PageError(f"the interpreter died in\n{source}")
        printed, error = json.loads(answer)
        if error:
            raise PageError(f"{source}\nraised\n{error[-3000:]}")
        return str(printed)

    def close(self) -> None:
        for process in (*self.started, *filter(None, [self.python])):
            with process:
                process.kill()


def shortened(line: str) -> str:
    """The same command line, in which networks are trained for three updates."""
    training = re.match(r"\s*(torchrun .*-m )?textgen (train|compare)\b", line)
    if not training or re.search(r"--model ngram\b", line):  # which has no updates
        return line
    options = re.sub(r"\s--(budget|epochs|steps)\s\S+", "", line[training.end() :])
    steps = {"--steps": "6"} if "--resume" in options else SHORT
    added = [f" {name} {value}" for name, value in steps.items() if f"{name} " not in options]
    return training[0] + "".join(added) + options


def commands(body: str, prompt: str) -> Iterator[str]:
    """The command lines of a block, in which a backslash at an end goes on."""
    lines = iter(body.splitlines())
    for line in lines:
        if line.startswith(prompt) and line.strip() and not line.lstrip().startswith("#"):
            whole = line[len(prompt) :]
            while whole.endswith("\\"):
                whole = whole[:-1] + next(lines).strip()
            yield whole


def typed(body: str) -> Iterator[tuple[str, str]]:
    """The commands of a block of ``console``: as they stand there, and the output below."""
    for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
        if part.startswith("$ "):
            lines = part.splitlines(keepends=True)
            count = 1
            while lines[count - 1].rstrip("\n").endswith("\\"):
                count += 1
            yield "".join(lines[:count]), "".join(lines[count:])


def displayed(printed: str, how: How) -> str:
    """An output as a page shows it."""
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    head = how.head or 0
    if (how.head is not None or how.tail) and len(lines) > head + how.tail + 1:
        lines = [*lines[:head], "...", *lines[len(lines) - how.tail :]]
    return "".join(f"{line}\n" for line in lines)


def run_block(match: re.Match[str], session: Session, write: bool) -> str:
    """Run one block; returns it with its output."""
    if match["setup"] is not None:
        for line in commands(match["setup"], ""):
            session.command(line, 0)
        return match[0]
    how, indent = How.read(match["how"] or ""), match["indent"]
    if how.skip:
        return match[0]
    body = re.sub(f"^{indent}", "", match["body"], flags=re.MULTILINE)

    def check(printed: str, shown: str) -> None:
        if how.exact and not write and displayed(printed, how) != shown:
            raise PageError(f"the page shows\n{shown}\nand this was printed\n{printed}")

    def indented(text: str) -> str:
        return re.sub(r"^(?=.)", indent, text, flags=re.MULTILINE)

    if match["language"] == "python":
        printed = session.execute(body, how.full or how.exact)
        if not printed and match["output"] is None:
            return match[0]
        check(printed, re.sub(f"^{indent}", "", match["printed"] or "", flags=re.MULTILINE))
        head = match[0].removesuffix(match["output"] or "")
        output = indented(displayed(printed, how))
        return f'{head}\n\n{indent}```text title="output"\n{output}{indent}```'
    if match["language"] == "sh":
        lines = list(commands(body, ""))
        for line in lines:
            if how.background:
                session.start(line)
            elif not line.startswith("pip install"):
                session.command(line, how.exit if line is lines[-1] else 0, how.full)
        return match[0]
    pairs, rewritten = list(typed(body)), ""
    for place, (command, shown) in enumerate(pairs):
        (line,) = commands(command, "$ ")
        code = how.exit if place == len(pairs) - 1 else 0
        printed = session.command(line, code, how.full or how.exact)
        check(printed, shown)
        rewritten += command + displayed(printed, how)
    start, end = match.start("body") - match.start(), match.end("body") - match.start()
    return match[0][:start] + indented(rewritten) + match[0][end:]


def run_page(page: Path, write: bool) -> int:
    """Run a page; returns how many blocks it has.

    Raises:
        PageError: A block failed, or printed something else.
    """
    text, parts, end = page.read_text(encoding="utf-8"), [], 0
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder), short=not write)
        try:
            matches = list(BLOCK.finditer(text))
            for match in matches:
                try:
                    new = run_block(match, session, write)
                except (PageError, subprocess.TimeoutExpired) as error:
                    line = text.count("\n", 0, match.start()) + 1
                    raise PageError(f"{page.relative_to(ROOT)}:{line}: {error}") from None
                parts += [text[end : match.start()], new]
                end = match.end()
            if write:
                keep_pictures(page, text, Path(folder))
        finally:
            session.close()
    if write and matches:
        body = CAPTURED.sub("", "".join(parts) + text[end:]).rstrip()
        page.write_text(f"{body}\n\n{provenance(page)}\n", encoding="utf-8")
    return len(matches)


def keep_pictures(page: Path, text: str, folder: Path) -> None:
    """Copy the pictures that the commands of a page have made to where the page shows them."""
    for link in PICTURE.findall(text):
        made = folder / Path(link).name
        if made.is_file():
            target = page.parent / link
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, target)


def provenance(page: Path) -> str:
    """Where the output of a page comes from."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    models = re.findall(r"^model name\s*:\s*(.*)$", _cpuinfo(), re.MULTILINE)
    machine = models[0] if models else platform.processor() or platform.machine()
    return (
        f"*Output captured by `python docs/_tools/run.py --write {page.relative_to(ROOT)}`"
        f" at commit {git.stdout.strip()}, on {os.cpu_count()} cores of {machine}.*"
    )


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def pages() -> list[Path]:
    """The pages that run: all of the documentation but the decisions."""
    return [
        path
        for path in sorted(DOCS.rglob("*.md"))
        if not {"decisions", "_tools"} & set(path.relative_to(DOCS).parts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="in full, output into the page")
    arguments = parser.parse_args()
    failed, passed = 0, 0
    for page in [each.resolve() for each in arguments.pages] or pages():
        begun = time.monotonic()
        try:
            count = run_page(page, arguments.write)
        except PageError as error:
            failed += 1
            print(f"FAILED {error}", flush=True)
        else:
            passed += 1
            seconds = time.monotonic() - begun
            print(f"{page.relative_to(ROOT)}: {count} blocks, {seconds:.0f} s", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
