"""Reading text: what is normalized, what is refused, where the validation part starts."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import UNIT_TERMINATORS, Unit
from textgen.data import sources as sources_module
from textgen.data.corpus import Corpus
from textgen.data.text import sentences
from textgen.errors import DataError, ResourceError, UsageError

Make = Callable[..., Path]
UNITS: tuple[Unit, ...] = ("line", "paragraph", "document")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a file: make(content, name)."""

    def write(content: bytes | str, name: str = "corpus.txt") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def parts(corpus: Corpus) -> tuple[str, str]:
    return "".join(p.text for p in corpus.train()), "".join(p.text for p in corpus.valid())


def whole(corpus: Corpus) -> str:
    return "".join(parts(corpus))


# Reading


@pytest.mark.parametrize("block", [1, 2, 3, 7, 2**20])
def test_line_ends_marks_and_blocks_change_no_text(
    make: Make, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(sources_module, "BLOCK_BYTES", block)
    plain = Corpus.open([make("a\n\né\nc d\n")])
    for other in ("a\r\n\r\né\r\nc d\r\n", "a\r\ré\rc d", "\ufeffa\n\r\né\nc d\r"):
        corpus = Corpus.open([make(other, "other.txt")])
        assert whole(corpus) == "a\n\né\nc d\n"
        assert corpus.fingerprint == plain.fingerprint
        assert corpus.notes


def test_what_was_normalized_is_noted(make: Make) -> None:
    notes = Corpus.open([make("\ufeffa\r\nb\r\n")]).notes
    assert any("byte order mark" in note for note in notes)
    assert any("CRLF" in note for note in notes)
    assert Corpus.open([make("a\nb\n")]).notes == ()


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("line", "a\nb", "a\nb\n"),
        ("paragraph", "a", "a\n\n"),
        ("paragraph", "a\n", "a\n\n"),
        ("paragraph", "a\n\n", "a\n\n"),
        ("paragraph", "a\n\n\n", "a\n\n\n\n"),
        ("document", "a", "a\n"),
    ],
)
def test_a_text_is_given_the_end_it_lacks(make: Make, unit: Unit, text: str, expected: str) -> None:
    assert whole(Corpus.open([make(text)], unit=unit)) == expected


def test_control_characters_and_unusual_ones_round_trip(make: Make) -> None:
    text = "a\0b\x01\x0b\x0c\x1b\x7f\u0085\u2028\u2029e\u0301\ufeff\ufffd👩‍👩‍👧\n"
    assert whole(Corpus.open([make(text)])) == text


def test_a_folder_gives_its_text_files_by_relative_path(make: Make, tmp_path: Path) -> None:
    for name, content in {
        "in/b.txt": "b\n",
        "in/a/z.txt": "z\n",
        "in/c.txt.gz": gzip.compress(b"c\n"),
        "in/.hidden": "no\n",
        "in/.git/x": "no\n",
        "in/picture.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "in/empty": "",
    }.items():
        make(content, name)
    corpus = Corpus.open([tmp_path / "in"], skip_binary=True, valid_split="tail")
    assert whole(corpus) == "z\nb\nc\n"
    assert [Path(name).name for name in corpus.sources] == ["z.txt", "b.txt", "c.txt.gz", "empty"]
    assert any("picture.png" in note for note in corpus.notes)


def test_a_tenth_of_a_folder_is_left_out_with_its_share_and_more_only_when_asked(
    make: Make, tmp_path: Path
) -> None:
    folder, picture = tmp_path / "in", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(84)
    make("a text\n" * 130, "in/text.txt")
    make(picture, "in/one.png")
    (note,) = Corpus.open([folder]).notes
    assert note == f"left out of {folder}, not text: one.png, 9.9% of the bytes"
    make(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "in/two.png")
    with pytest.raises(DataError, match=r"not text .*one.png, two.png, 11.\d% of .*--skip-binary"):
        Corpus.open([folder])
    corpus = Corpus.open([folder], skip_binary=True)
    assert whole(corpus) == "a text\n" * 130
    assert "11." in corpus.notes[0]


def test_a_text_in_utf_16_is_named_in_a_folder_as_it_is_alone(make: Make, tmp_path: Path) -> None:
    text = "Az emberi nem minden egyes tagja\n"
    for encoding in ("utf-16", "utf-16-le", "utf-32-be"):
        make(text.encode(encoding), "in/a.txt")
        make("All human beings are born free\n", "in/b.txt")
        for path in (tmp_path / "in", tmp_path / "in" / "a.txt"):
            with pytest.raises(DataError, match=r"UTF-(16|32).*a\.txt.*--encoding utf-(16|32)"):
                Corpus.open([path])
            with pytest.raises(DataError, match=r"UTF-(16|32).*, not ISO8859-1"):
                Corpus.open([path], encoding="latin-1")
        corpus = Corpus.open([tmp_path / "in"], skip_binary=True)
        assert whole(corpus) == "All human beings are born free\n"
        assert "a.txt" in corpus.notes[0]
        make(text.encode(encoding), "in/b.txt")
        assert whole(Corpus.open([tmp_path / "in"], encoding=encoding)) == text * 2


def test_what_is_not_text_is_named_in_any_encoding(make: Make, tmp_path: Path) -> None:
    picture = make(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "in/picture.png")
    for encoding in ("latin-1", "utf-16", "shift_jis"):
        with pytest.raises(DataError, match="PNG"):
            Corpus.open([picture], encoding=encoding)
    make("Größe\n".encode("cp500") * 40, "ebcdic.txt")
    assert whole(Corpus.open([tmp_path / "ebcdic.txt"], encoding="cp500")) == "Größe\n" * 40


@pytest.mark.skipif(os.name != "posix", reason="links need privileges on Windows")
def test_links_of_a_folder_are_not_passed_over_in_silence(make: Make, tmp_path: Path) -> None:
    make("a\n", "in/a.txt")
    make("b\n", "elsewhere/b.txt")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    corpus = Corpus.open([tmp_path / "in"])
    assert any("not followed: more" in note for note in corpus.notes)
    (tmp_path / "in" / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ResourceError, match=r"a link to nothing .*gone\.txt"):
        Corpus.open([tmp_path / "in"])
    assert whole(Corpus.open([tmp_path / "in"], skip_binary=True)) == "a\n"


def test_gzip_is_known_by_its_magic_and_may_have_members(make: Make) -> None:
    data = gzip.compress(b"a\n") + gzip.compress(b"b")
    assert whole(Corpus.open([make(data, "named.txt")])) == "a\nb\n"


@pytest.mark.skipif(os.name != "posix", reason="FIFOs are POSIX")
def test_a_fifo_is_read_once_and_passed_over_again(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"a\nb\n" * 100,))
    writer.start()
    corpus = Corpus.open([fifo])
    writer.join()
    assert whole(corpus) == whole(corpus) == "a\nb\n" * 100


def test_stdin_is_passed_over_again_even_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress("é\nb\n".encode() * 50)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    corpus = Corpus.open(["-"])
    together = [(a.text, b.text) for a, b in zip(corpus.train(), corpus.train(), strict=True)]
    assert all(a == b for a, b in together)
    assert whole(corpus) == "é\nb\n" * 50


@pytest.mark.parametrize("name", ["with space", "-dash", "new\nline", "é"])
def test_unusual_names_work(make: Make, name: str) -> None:
    assert whole(Corpus.open([make("a\n", name)])) == "a\n"


def test_marks_and_invisible_characters_inside_a_text_stay(make: Make) -> None:
    text = "one line\n\ufeffanother line\nzero\u200bwidth and soft\u00adhyphen\n"
    corpus = Corpus.open([make("\ufeff" + text), make("\ufeff\ufeffx\n", "other.txt")])
    assert whole(Corpus.open([make(text, "plain.txt")])) == text
    assert sorted(whole(corpus)) == sorted(text + "\ufeffx\n")
    assert list(corpus.notes) == ["byte order marks dropped: 2"]


def test_utf_8_that_is_read_as_something_else_is_said(make: Make, tmp_path: Path) -> None:
    utf8, western = make("häé\n", "in/utf8.txt"), make("häé\n".encode("cp1252"), "in/cp1252.txt")
    make("ascii\n", "in/ascii.txt")
    (note,) = Corpus.open([tmp_path / "in"], encoding="latin-1").notes
    assert note.startswith(f"valid UTF-8, but read in another encoding: {utf8};")
    assert Corpus.open([western], encoding="cp1252").notes == ()
    assert Corpus.open([utf8], encoding="utf-8-sig").notes == ()
    (note,) = Corpus.open([make("ascii\n", "even.txt")], encoding="utf-16-le").notes
    assert "even.txt" in note


# Bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"ok\n" * 5 + b"\xff", "byte 15"),
        (b"cut \xe2\x82", "byte 4"),
        ("hello\n".encode("utf-16"), "UTF-16"),
        ("hello\n".encode("utf-32"), "UTF-32"),
        ("hello there\n".encode("utf-16-le"), "UTF-16"),
        ("hello there\n".encode("utf-16-be"), "UTF-16"),
        ("hello there\n".encode("utf-32-be"), "UTF-32"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b"PK\x03\x04\x14\0\0\0" + bytes(30), "zip"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        (b"\x80\x04\x95\0\0\0", "pickle"),
        (bytes(100), "binary"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS"),
        (gzip.compress(b"a\n" * 9000, mtime=0)[:-9], "gzip"),
        (b"\x1f\x8bnot really", "gzip"),
    ],
)
def test_bad_input_is_named(make: Make, content: bytes, message: str) -> None:
    path = make(content)
    for read in (lambda: Corpus.open([path]), lambda: list(sentences(path))):
        with pytest.raises(DataError, match=message) as caught:
            read()
        assert caught.value.exit_code == 3
        assert path.name in str(caught.value)


def test_the_likely_encoding_is_advised(make: Make) -> None:
    for content, options, advice in (
        ("It’s “fine” — really\n".encode("cp1252"), {}, "add --encoding cp1252, which fits"),
        ("Все люди\n".encode("koi8-r"), {}, "add --encoding koi8-r or "),
        ("Füße, häuser\n".encode() + b"\xff\n", {}, "correct these bytes, or add --errors"),
        (b"ASCII\n", {"encoding": "utf-16"}, "leave --encoding out: this is UTF-8"),
        ("é\n".encode(), {"encoding": "ascii"}, "leave --encoding out: this is UTF-8"),
    ):
        with pytest.raises(DataError, match=advice) as caught:
            Corpus.open([make(content)], **options)
        assert "latin-1" not in str(caught.value)


def test_the_byte_offset_is_absolute(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "BLOCK_BYTES", 5)
    with pytest.raises(DataError, match="byte 18"):
        Corpus.open([make("é".encode() * 9 + b"\xff")])


def test_missing_paths_and_folders_without_text_are_resources(make: Make, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    make(bytes(100), "binary/x.bin")
    for path in (tmp_path / "absent", tmp_path / "none", tmp_path / "binary", "nul\0"):
        with pytest.raises(ResourceError):
            Corpus.open([path])


def test_impossible_requests_are_usage_errors(make: Make) -> None:
    path = make("a\n")
    for paths, options in (
        ([], {}),
        (["-", "-"], {}),
        (["-"], {"valid": "-"}),
        ([path], {"encoding": "utf-9"}),
        ([path], {"encoding": "hex"}),
        ([path], {"errors": "ignore"}),
        ([path], {"valid_fraction": 1.0}),
        ([path], {"valid_split": "random"}),
    ):
        with pytest.raises(UsageError):
            Corpus.open(paths, **options)


def test_replacement_is_opted_into_and_counted(make: Make) -> None:
    corpus = Corpus.open([make(b"a\xffb\xe2\x82\n" + "\ufffd\n".encode())], errors="replace")
    assert whole(corpus) == "a\ufffdb\ufffd\n\ufffd\n"
    assert any(note.endswith(": 2") for note in corpus.notes)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-8", "shift_jis"])
def test_another_encoding_is_read_where_it_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(sources_module, "BLOCK_BYTES", 3)
    text = "日本\n" * 4 if encoding == "shift_jis" else "häé\n" * 4
    corpus = Corpus.open([make(text.encode(encoding))], encoding=encoding)
    assert whole(corpus) == text
    assert corpus.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_a_corpus_that_changes_is_refused(make: Make) -> None:
    path = make("a\n" * 100)
    corpus = Corpus.open([path])
    path.write_text("b\n" * 90)
    with pytest.raises(DataError, match="changed"):
        whole(corpus)


# Splitting


@pytest.mark.parametrize(
    ("unit", "text", "fraction", "train", "valid"),
    [
        ("line", "aa\nbb\ncc\ndd\n", 0.25, "aa\nbb\ncc\n", "dd\n"),
        ("line", "aa\nbb\ncc\ndd\n", 0.3, "aa\nbb\ncc\n", "dd\n"),
        ("line", "aa\nbb\ncc\ndd\n", 0.5, "aa\nbb\n", "cc\ndd\n"),
        ("line", "a\nbbbbbbbb\n", 0.5, "a\nbbbb", "bbbb\n"),
        ("line", "ab\n", 0.1, "ab", "\n"),
        ("paragraph", "aa\n\nb\nb\n\nc\n\n", 0.5, "aa\n\nb\nb\n\n", "c\n\n"),
        ("paragraph", "aaaa\n\n\nbbb\n\n", 0.5, "aaaa\n\n", "\nbbb\n\n"),
        ("document", "abcdefghi\n", 0.2, "abcdefgh", "i\n"),
        ("document", "abcdefghi\n", 0.25, "abcdefgh", "i\n"),
    ],
)
def test_the_validation_part_starts_at_the_next_sentence(
    make: Make, unit: Unit, text: str, fraction: float, train: str, valid: str
) -> None:
    corpus = Corpus.open([make(text)], unit=unit, valid_fraction=fraction)
    assert parts(corpus) == (train, valid)
    assert (corpus.train_characters, corpus.valid_characters) == (len(train), len(valid))


def test_documents_end_with_their_files_and_split_between_them(make: Make, tmp_path: Path) -> None:
    for name, text in (("a", "aaaa"), ("b", "bb\nb\n"), ("c", "c")):
        make(text, f"in/{name}")
    corpus = Corpus.open([tmp_path / "in"], unit="document", valid_fraction=0.3)
    assert list(corpus.train()) == [("aaaa\n", True), ("bb\nb\n", True)]
    assert list(corpus.valid()) == [("c\n", True)]
    cut_inside = Corpus.open([tmp_path / "in"], unit="document", valid_fraction=0.1)
    assert list(cut_inside.train()) == [("aaaa\n", True), ("bb\nb\n", True), ("c", False)]
    assert list(cut_inside.valid()) == [("\n", True)]


def test_spread_holds_out_the_end_of_every_file_and_says_where(make: Make) -> None:
    files = [make(f"{name} line\n" * 20, f"{name}.txt") for name in "abc"]
    spread, tail = (Corpus.open(files, valid_split=split) for split in ("spread", "tail"))
    assert parts(spread) == tuple(
        "".join(f"{name} line\n" * count for name in "abc") for count in (18, 2)
    )
    assert [(Path(p.source).name, p.line, p.characters) for p in spread.held_out] == [
        ("a.txt", 19, 14),
        ("b.txt", 19, 14),
        ("c.txt", 19, 14),
    ]
    assert parts(tail)[1] == "c line\n" * 6
    assert [(Path(p.source).name, p.line) for p in tail.held_out] == [("c.txt", 15)]
    assert spread.fingerprint == tail.fingerprint


def test_small_files_are_held_out_as_a_whole_and_long_ones_never(make: Make) -> None:
    files = [make(f"file {index}\n", f"{index}.txt") for index in range(10, 40)]
    for unit in UNITS:
        corpus = Corpus.open(files, unit=unit)
        assert [(Path(p.source).stem, p.line) for p in corpus.held_out] == [
            ("19", 1),
            ("29", 1),
            ("39", 1),
        ]
    long = make("x" * 90 + "\n", "long.txt")
    assert parts(Corpus.open([long, make("end\n" * 5, "short.txt")]))[1] == "end\n" * 2


def test_documents_are_not_cut_by_spread(make: Make) -> None:
    files = [make("a\n" * size, f"{size}.txt") for size in (30, 3, 5, 2)]
    corpus = Corpus.open(files, unit="document", valid_fraction=0.2)
    assert [piece.text for piece in corpus.valid()] == ["a\n" * 3, "a\n" * 2]


def test_a_validation_file_is_held_out_from_its_first_line(make: Make) -> None:
    corpus = Corpus.open([make("a\nb")], valid=make("v\nw\n", "valid"))
    (held_out,) = corpus.held_out
    assert (Path(held_out.source).name, held_out.line, held_out.characters) == ("valid", 1, 4)


def test_document_borders_are_in_the_fingerprint(make: Make) -> None:
    one, two, both = make("a\nb\n", "one"), make("c\n", "two"), make("a\nb\nc\n", "both")
    assert Corpus.open([one, two]).fingerprint == Corpus.open([both]).fingerprint
    as_documents = [Corpus.open(p, unit="document").fingerprint for p in ([one, two], [both])]
    assert as_documents[0] != as_documents[1]


def test_with_a_validation_file_the_whole_corpus_trains(make: Make) -> None:
    corpus = Corpus.open([make("a\nb"), make("c\n", "more")], valid=make("v", "valid"))
    assert parts(corpus) == ("a\nb\nc\n", "v\n")
    assert corpus.train_characters == 6
    with pytest.raises(DataError, match="empty"):
        Corpus.open([make("a\n")], valid=make("", "nothing"))
    with pytest.raises(DataError, match="empty"):
        Corpus.open([make("", "nothing")], valid=make("a\n"))


@given(
    st.lists(st.text(st.sampled_from("ab \n\n"), max_size=30), min_size=1, max_size=5),
    st.sampled_from(UNITS),
    st.floats(0.01, 0.99),
)
def test_spread_holds_out_no_more_than_its_share_in_whole_sentences(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], unit: Unit, fraction: float
) -> None:
    folder = tmp_path_factory.mktemp("spread")
    for number, text in enumerate(["a\n", *texts]):
        (folder / f"{number}").write_text(text, newline="")
    corpus = Corpus.open([folder], unit=unit, valid_fraction=fraction)
    least = max(len(UNIT_TERMINATORS[unit]), 1)
    assert 0 < corpus.valid_characters <= max(corpus.characters * fraction, least)
    assert corpus.train_characters > 0
    assert sum(each.characters for each in corpus.held_out) == corpus.valid_characters
    assert len(whole(corpus)) == corpus.characters


@given(
    st.text(st.sampled_from("ab \n\n"), min_size=1, max_size=60),
    st.sampled_from(UNITS),
    st.floats(0.01, 0.99),
)
def test_the_parts_are_the_whole_and_start_with_sentences(
    tmp_path_factory: pytest.TempPathFactory, text: str, unit: Unit, fraction: float
) -> None:
    path = tmp_path_factory.mktemp("split") / "text"
    path.write_text(text, newline="")
    corpus = Corpus.open([path], unit=unit, valid_fraction=fraction)
    train, valid = parts(corpus)
    assert (train + valid).startswith(text)
    assert len(train) >= len(train + valid) * (1 - fraction) - max(len(UNIT_TERMINATORS[unit]), 1)
    if unit == "line" and not train.endswith("\n"):
        assert "\n" not in valid[:-1]
    tail = Corpus.open([path], unit=unit, valid_fraction=fraction, valid_split="tail")
    assert parts(tail) == (train, valid), "of one file both are the same"
    assert tail.held_out == corpus.held_out
    assert [each.line for each in corpus.held_out] == [1 + train.count("\n")] * bool(valid)


def test_tinyshakespeare_is_split_where_nanogpt_splits_it(corpora: Path) -> None:
    corpus = Corpus.open([corpora / "tinyshakespeare.txt"])
    text = (corpora / "tinyshakespeare.txt").read_text()
    assert corpus.train_characters == text.index("\n", int(len(text) * 0.9)) + 1
    assert corpus.fingerprint.startswith("86c4e6aa9db7")


def test_a_line_of_50_mb_passes_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as stream:
        for _ in range(50):
            stream.write(b"0123456789 abcde" * 2**16)
    code = (
        "import resource, sys\n"
        "from textgen.data.corpus import Corpus\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "corpus = Corpus.open([sys.argv[1]])\n"
        "parts = corpus.train(), corpus.valid()\n"
        "longest = max(len(text) for part in parts for text, _ in part)\n"
        "print(longest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    longest, grown = map(int, done.stdout.split())
    assert longest <= 2**20
    assert grown / (1 if sys.platform == "linux" else 1024) < 30_000  # KB
