"""datatrove: scored and tokenized files of documents, by its executors, with real parts."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.cli.app import main
from textgen.errors import DataError, ResourceError, UsageError

pytest.importorskip("datatrove")
pyarrow = pytest.importorskip("pyarrow")

from datatrove.executor import LocalPipelineExecutor  # noqa: E402
from datatrove.io import get_datafolder  # noqa: E402
from datatrove.pipeline.readers import JsonlReader  # noqa: E402
from datatrove.pipeline.writers import JsonlWriter  # noqa: E402
from pyarrow import parquet  # noqa: E402

from textgen.integrations import cluster  # noqa: E402
from textgen.integrations.datatrove import TextgenScorer, TextgenTokenizer  # noqa: E402
from textgen.integrations.documents import (  # noqa: E402
    DocumentFiles,
    DocumentWriter,
    find_documents,
)

from ..test_readme import blocks  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("default"),  # those of the other program are its own
    pytest.mark.skipif(sys.platform == "win32", reason="signals and paths"),
]

WORDS = ["the", "cat", "dog", "king", "queen", "sat", "saw", "was", "tired", "and", "who", ","]
TEXTGEN = [sys.executable, "-m", "textgen"]
FIGURES = ["log_prob", "perplexity", "bits_per_byte", "unknown_rate"]
PAGE = Path(__file__).parents[2] / "docs" / "doors" / "cluster.md"


def sentences(most: int) -> str:
    return "\n".join(
        " ".join(random.choices(WORDS, k=random.randint(1, 12)))
        for _ in range(random.randint(1, most))
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    random.seed(1)
    (folder / "corpus.txt").write_text("".join(sentences(1) + "\n" for _ in range(300)))
    sizes: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "batch_size": 2}
    out = folder / "run"
    train(folder / "corpus.txt", out=out, steps=2, sequence_length=8, device="cpu", **sizes)
    return out


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    random.seed(seed)
    texts = ["", "the cat\n", "a “strange” text", "日本語", *(sentences(6) for _ in range(count))]
    return [
        {"id": f"{seed}/{number}", "text": text, "n": 2**70, "tags": ["a", None]}
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of three formats, in a folder and one below it."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "more").mkdir()
    for seed, name in enumerate(("a.jsonl", "b.jsonl", "more/c.jsonl")):
        lines = [json.dumps(row, ensure_ascii=seed == 0) for row in rows_of(9, seed)]
        (folder / name).write_text("\n".join(lines))
    for seed, name in enumerate(("d.jsonl.gz", "more/e.jsonl.gz"), start=3):
        lines = [json.dumps(row) + "\n" for row in rows_of(9, seed)]
        (folder / name).write_bytes(gzip.compress("".join(lines).encode()))
    table = pyarrow.table(
        {
            "text": pyarrow.array([row["text"] for row in rows_of(9, 5)], pyarrow.large_string()),
            "when": pyarrow.array(range(13), pyarrow.timestamp("ns")),
            "kind": pyarrow.array(["x", "y"] * 6 + [None]).dictionary_encode(),
        }
    )
    parquet.write_table(table, folder / "f.parquet")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """The files of an output folder by name, without those of the run."""
    found = (path for path in folder.rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    return {name: data for name, data in named.items() if not name.startswith("_run/")}


def textgen(*arguments: object) -> None:
    assert main(list(map(str, arguments))) == 0


@pytest.fixture(scope="module")
def scored(trained: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents scored by one task."""
    out = tmp_path_factory.mktemp("scored") / "one"
    textgen("score", trained, documents, "--executor", "local", "--out", out)
    return out


@pytest.mark.parametrize("tasks", [4, 16])
def test_any_number_of_tasks_writes_the_same_files(
    tasks: int, trained: Path, documents: Path, scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    textgen("score", trained, documents, "--executor", "local", "--tasks", tasks, "--out", out)
    assert tree(out) == tree(scored)
    loads = [path.read_text().count("loading the model") for path in out.rglob("task_*.log")]
    assert len(loads) == tasks
    workers = min(tasks, len(os.sched_getaffinity(0)))
    assert sum(loads) == workers  # once in each worker, not in each task


def test_every_row_comes_back_as_it_was_with_its_figures(
    trained: Path, documents: Path, scored: Path
) -> None:
    model = LanguageModel.load(trained, device="cpu")
    names = {str(path.relative_to(documents)) for path in documents.rglob("*.*")}
    assert tree(scored).keys() == names
    for name, data in tree(scored).items():
        given = (documents / name).read_bytes()
        if name.endswith(".parquet"):
            before, after = (parquet.read_table(each / name) for each in (documents, scored))
            assert after.select(before.column_names).equals(before)
            rows, given_rows = after.to_pylist(), before.to_pylist()
        else:
            if name.endswith(".gz"):
                data, given = gzip.decompress(data), gzip.decompress(given)
            lines = given.decode().splitlines()
            for line, with_figures in zip(lines, data.decode().splitlines(), strict=True):
                assert with_figures.startswith(line[:-1] + ", ")
            rows = list(map(json.loads, data.decode().splitlines()))
            given_rows = list(map(json.loads, lines))
        assert len(rows) == len(given_rows) == 13
        for row in rows:
            parts = row["text"].removesuffix("\n").split("\n")
            scores = model.score(parts, context="document")
            assert list(row)[-4:] == FIGURES
            expected = sum(score.log_prob for score in scores)
            assert row["log_prob"] == pytest.approx(expected, abs=1e-4)
            tokens = sum(score.tokens for score in scores)
            unknown = sum(score.unknown for score in scores)
            assert row["unknown_rate"] == pytest.approx(unknown / tokens)
            size = sum(score.bytes for score in scores)
            assert row["bits_per_byte"] == pytest.approx(-expected / 0.6931471805599453 / size)
    # A document of one line is a sentence.
    first = json.loads(tree(scored)["a.jsonl"].splitlines()[2])
    assert first["perplexity"] == pytest.approx(model.score(first["text"]).perplexity, rel=1e-5)


def test_ids_are_those_of_the_tokenizer_and_end_once(
    trained: Path, documents: Path, tmp_path: Path
) -> None:
    arguments = ["--tokenizer", trained, "--executor", "local", "--tasks", 2]
    textgen("tokenize", documents, *arguments, "--out", tmp_path / "out")
    tokenizer = LanguageModel.load(trained).tokenizer
    rows = list(map(json.loads, tree(tmp_path / "out")["a.jsonl"].splitlines()))
    rows += parquet.read_table(tmp_path / "out" / "f.parquet").to_pylist()
    assert len(rows) == 26
    for row in rows:
        whole = row["text"] if row["text"].endswith("\n") else row["text"] + "\n"
        assert row["ids"] == tokenizer.encode(whole).tolist()


# A worker that is killed


def children(process: int) -> list[int]:
    """The workers of a command, which multiprocessing spawned."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def wait_until(holds: Callable[[], object], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files, so large that a worker is killed before it has written all of its own."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        lines = [json.dumps(row) + "\n" for row in rows_of(400, number)]
        (folder / f"{number:02}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def many_scored(trained: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("many_scored") / "one"
    textgen("score", trained, many, "--executor", "local", "--out", out)
    return out


def test_after_a_worker_was_killed_the_same_command_does_the_rest(
    trained: Path, many: Path, many_scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ["score", trained, many, "--executor", "local", "--tasks", "12", "--out", out]
    command = [*TEXTGEN, *map(str, given)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        wait_until(lambda: list(out.glob("_run/completions/*")))
        os.kill(children(first.pid)[0], signal.SIGKILL)
        _, err = first.communicate(timeout=900)
    assert first.returncode == 1
    assert "a worker has died: SIGKILL" in err
    complete = len(list(out.glob("_run/completions/*")))
    assert 1 <= complete < 12
    # What is there is whole.
    assert tree(out).items() <= tree(many_scored).items()
    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert f"{complete} of 12 tasks were complete already" in again.stderr
    assert tree(out) == tree(many_scored)
    assert not (out / "_run" / "parts").exists()


# Ray


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray cluster of two nodes on this machine, each with a core."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    both = Cluster(initialize_head=True, head_node_args=node)
    try:
        both.add_node(**{name: node[name] for name in ("num_cpus", "object_store_memory")})
        both.wait_for_nodes()
        yield both.address
    finally:
        both.shutdown()


def ray_workers() -> list[int]:
    """The processes in which Ray runs tasks of datatrove, without the children of these."""
    names, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            names[int(path.name)] = (path / "cmdline").read_bytes()
            stat = (path / "stat").read_text()
            parents[int(path.name)] = int(stat.rpartition(")")[2].split()[1])
    ours = {process for process, name in names.items() if b"RankWorker" in name}
    return [process for process in ours if parents[process] not in ours]


def test_without_a_cluster_of_ray_the_command_says_so(
    trained: Path, documents: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    given = ["score", trained, documents, "--executor", "ray", "--out", tmp_path / "out"]
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    ended = subprocess.run(
        [*TEXTGEN, *map(str, given)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=900,
    )
    assert ended.returncode == 1
    assert "no Ray cluster" in ended.stderr.splitlines()[-1]


def test_two_nodes_of_ray_write_the_same_files_though_a_worker_is_killed(
    trained: Path, many: Path, many_scored: Path, ray_cluster: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ["score", trained, many, "--executor", "ray", "--tasks", "4", "--out", out]
    command = [*TEXTGEN, *map(str, given)]
    environment = os.environ | {"RAY_ADDRESS": ray_cluster}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as first:
        wait_until(lambda: list(out.glob("_run/completions/*")))
        for worker in ray_workers()[:1]:  # none is left if all has gone too fast
            os.kill(worker, signal.SIGKILL)
        _, err = first.communicate(timeout=900)
    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, timeout=900)
    assert again.returncode == 0, err + again.stderr
    assert tree(out) == tree(many_scored)


# Slurm

SBATCH = """#!/bin/bash
# Runs the script for every task of its array, as Slurm would on as many machines.
here=$(dirname "$0")
for argument; do script=$argument; done
cp "$script" "$here/script.$(ls "$here" | grep -c script)"
array=$(grep -oP '(?<=^#SBATCH --array=0-)[0-9]+' "$script")
if grep -q launch_pickled_pipeline "$script"; then
  for task in $(seq 0 "$array"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=node SLURM_JOB_ID=17 bash "$script" \\
      >> "$here/said" 2>&1
  done
fi
echo "Submitted batch job 17"
"""
SRUN = """#!/bin/bash
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""
SCONTROL = "#!/bin/bash\necho node\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of Slurm, for one machine, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_slurm_gets_an_array_of_jobs_that_do_the_tasks(
    slurm: Path,
    trained: Path,
    documents: Path,
    scored: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    given = ["score", trained, documents, "--executor", "slurm", "--tasks", 3, "--out", out]
    textgen(*given)
    assert "submitted 3 tasks to Slurm as job 17" in capsys.readouterr().err
    script = (slurm / "script.0").read_text().splitlines()
    assert script[0] == "#!/bin/bash"
    options = dict(
        line.removeprefix("#SBATCH --").split("=")
        for line in script
        if line.startswith("#SBATCH --") and "=" in line
    )
    assert (options["array"], options["nodes"]) == ("0-2", "1")
    assert (options["cpus-per-task"], options["mem-per-cpu"]) == ("1", "2G")
    assert not {"partition", "time", "qos"} & options.keys()  # the cluster's own
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in map(str.strip, script)
    pickled = out / "_run" / "executor.pik"
    assert any(line.endswith(f"-n 1 launch_pickled_pipeline {pickled}") for line in script)
    assert tree(out) == tree(scored), (slurm / "said").read_text()
    textgen(*given)
    assert "3 of 3 tasks were complete already" in capsys.readouterr().err
    assert len(list(slurm.glob("script.*"))) == 2  # the second merged the statistics


def test_every_command_of_the_page_runs(
    slurm: Path, ray_cluster: str, trained: Path, documents: Path, scored: Path, tmp_path: Path
) -> None:
    lines = "".join(blocks(PAGE, "sh")).splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("textgen ")]
    assert len(commands) == 4
    for number, (_, *arguments) in enumerate(commands):
        folder = tmp_path / str(number)
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "mine").symlink_to(trained)
        (folder / "documents").symlink_to(documents)
        arguments[arguments.index("--tasks") + 1] = "2"
        command, environment = [*TEXTGEN, *arguments], os.environ | {"RAY_ADDRESS": ray_cluster}
        ended = subprocess.run(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, timeout=900
        )
        assert ended.returncode == 0, ended.stderr
        written = tree(folder / arguments[-1])
        assert written.keys() == tree(scored).keys()
        assert arguments[0] == "tokenize" or written == tree(scored)


# The steps alone, and what is refused


def test_the_steps_work_between_the_readers_and_writers_of_datatrove(
    trained: Path, documents: Path, scored: Path, tmp_path: Path
) -> None:
    pytest.importorskip("orjson")
    pipeline = [
        JsonlReader(str(documents), glob_pattern="b.jsonl"),
        TextgenScorer(trained),
        TextgenTokenizer(trained),
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    LocalPipelineExecutor(pipeline, workers=1, logging_dir=str(tmp_path / "logs")).run()
    (written,) = (tmp_path / "out").glob("*.jsonl")
    rows = list(map(json.loads, written.read_text().splitlines()))
    ours = {row["text"]: row for row in map(json.loads, tree(scored)["b.jsonl"].splitlines())}
    assert len(rows) == 12  # the readers of datatrove leave empty documents out
    for row in rows:
        for name in FIGURES:
            assert row["metadata"][name] == pytest.approx(ours[row["text"]][name], abs=1e-5)
        assert row["metadata"]["ids"][-1] == 1


def test_any_filesystem_that_fsspec_knows_is_read_and_written(trained: Path) -> None:
    folder = get_datafolder("memory://given")
    with folder.open("a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(b'{"text": "the cat"}\n\n{"text": "the dog"}\n'))
    (source,) = find_documents(["memory://given"])
    assert (source.path, source.name) == ("memory:///given/a.jsonl.gz", "a.jsonl.gz")
    out = get_datafolder("memory://written")
    steps = (
        DocumentFiles([source], "text", ["ids"]),
        TextgenTokenizer(trained),
        DocumentWriter(out, ["ids"]),
    )
    data: Any = None
    for step in steps:
        data = step.run(data)
    assert [document.text for document in data] == ["the cat", "the dog"]
    with out.open("a.jsonl.gz", "rb", compression="gzip") as file:
        assert [json.loads(line)["text"] for line in file] == ["the cat", "the dog"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"not JSON \(.*a.jsonl, line 2\)"),
        ("a.jsonl", b'{"body": "a"}\n', "no column 'text' .*it has body"),
        ("a.jsonl", b'{"text": 5}\n', "not text"),
        ("a.jsonl", b'["text"]\n', "not a JSON object"),
        ("a.jsonl", b'{"text": "\xff"}\n', "not JSON"),
        ("a.jsonl", b'{"text": "a", "ids": 1}\n', "has a column 'ids' already"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-9], "damaged"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "damaged"),
        ("a.parquet", b'{"text": "a"}\n', "not Parquet"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_place(
    name: str, data: bytes, why: str, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    out = get_datafolder(str(tmp_path / "out"))
    documents = DocumentFiles(find_documents([str(tmp_path / name)]), "text", ["ids"]).run()
    tokenized = TextgenTokenizer(trained).run(documents)
    with pytest.raises(DataError, match=why):
        list(DocumentWriter(out, ["ids"]).run(tokenized))
    assert not (tmp_path / "out" / name).exists()


def test_another_run_is_not_mixed_into_a_folder(
    trained: Path, documents: Path, scored: Path, tmp_path: Path
) -> None:
    def run(out: Path, *, tasks: int = 1, **options: Any) -> None:
        step = TextgenScorer(trained, **options)
        cluster.run(step, [str(documents)], str(out), executor="local", tasks=tasks)

    before = tree(scored)
    with pytest.raises(UsageError, match="its tasks: 1; here: 2"):
        run(scored, tasks=2)
    with pytest.raises(UsageError, match="its open_vocabulary: False; here: True"):
        run(scored, open_vocabulary=True)
    (tmp_path / "theirs").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        run(tmp_path)
    run(scored)  # nothing is left to do
    assert tree(scored) == before


def test_files_that_cannot_be_told_apart_or_read_are_refused(tmp_path: Path) -> None:
    for name in ("one/a.jsonl", "two/a.jsonl", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "a.txt"))
    assert [each.name for each in find_documents([str(tmp_path)])] == [
        "one/a.jsonl",
        "two/a.jsonl",
    ]
    assert [each.name for each in find_documents([f"{one}/*.jsonl"])] == ["a.jsonl"]
    with pytest.raises(UsageError, match=r"two files are named a\.jsonl"):
        find_documents([one, two])
    with pytest.raises(UsageError, match=r"not documents .*a\.txt"):
        find_documents([other])
    with pytest.raises(ResourceError, match="no documents"):
        find_documents([str(tmp_path / "nothing")])


def test_a_checkpoint_that_changes_during_a_run_is_noticed(
    trained: Path, documents: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    step = TextgenScorer(tmp_path / "run")
    shutil.rmtree(step.path)
    shutil.copytree(trained / "last", step.path)
    with pytest.raises(ResourceError, match="the checkpoint has changed"):
        next(step.run(DocumentFiles(find_documents([str(documents)]), "text", ()).run()))
