"""The weights at which reranking makes the fewest word errors on utterances that are known.

The words that each hypothesis has wrong are counted once, before any weight is tried.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from textgen.config import RerankingConfig
from textgen.errors import DataError, UsageError, named
from textgen.results import Hypothesis, TuningResult, Utterance
from textgen.studies.line_search import Table, grid, search
from textgen.studies.reranking import Score

_COMPARED = 1024  # hypotheses whose alignments are held at once


def tune(
    utterances: Iterable[Utterance],
    references: Mapping[str, str],
    score: Score,
    config: RerankingConfig | None = None,
) -> TuningResult:
    """The weights that minimise the word error rate of the best hypotheses.

    references: what was said, by utterance. config: where the search begins; it stays there
    unless fewer errors are found. What the list has no use for is left as it is: ``weight``
    without old scores, ``lm_scale`` without acoustic ones. All utterances are held in memory.

    The result is the same each time, and on these utterances never worse than the old scores.
    Raises DataError where utterances and references are not the same; UsageError where
    ``jiwer``, which counts the errors, is not installed.
    """
    config = config or RerankingConfig()
    heard = list(utterances)
    _check_ids([each.id for each in heard], references)
    words = sum(len(references[each.id].split()) for each in heard)
    if not words:
        raise DataError("no words in the references", fix="give what was said")
    first = heard[0].hypotheses[0]
    before, settled = _old_scores_alone(first, config), config.settled(old=first.lm is not None)
    said = [references[each.id] for each in heard for _ in each.hypotheses]
    # Before the scores, which take long, so that nothing is found missing after them.
    errors = _word_errors(said, [one.text for each in heard for one in each.hypotheses])
    new = score(one.text for each in heard for one in each.hypotheses)
    table = Table.of(heard, new, errors)
    best = search(table, settled, [before, *grid(table, first)], first)
    wer_before, wer_after = table.errors(before) / words, best.errors / words
    return TuningResult(best.weights, wer_before, wer_after, words, len(heard))


def _check_ids(ids: Sequence[str], references: Mapping[str, str]) -> None:
    if not ids:
        raise DataError("empty", where="n-best list", fix="give an n-best list")
    known = Counter(ids)
    twice = [id for id, times in known.items() if times > 1]
    for what, found, fix in (
        ("hypotheses in two places of the list", twice, "put each utterance's together"),
        ("no reference", [id for id in ids if id not in references], "give one for each utterance"),
        (
            "references for utterances that are not in the list",
            [id for id in references if id not in known],
            "leave them out",
        ),
    ):
        if found:
            raise DataError(f"{what}: {named(found)}", fix=fix)


def _word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """The words to be put in, left out and replaced to make each hypothesis its reference."""
    try:
        import jiwer
    except ImportError as error:
        raise UsageError(
            "--tune needs the package jiwer",
            why="it is not installed",
            fix="pip install 'textgen[rerank]'",
        ) from error
    # With one space between words, so that all count the same words.
    said = [" ".join(text.split()) for text in references]
    heard = [" ".join(text.split()) for text in hypotheses]
    errors: list[int] = []
    for start in range(0, len(said), _COMPARED):
        part = slice(start, start + _COMPARED)
        for chunks in jiwer.process_words(said[part], heard[part]).alignments:
            wrong = [each for each in chunks if each.type != "equal"]
            left_out = [each.ref_end_idx - each.ref_start_idx for each in wrong]
            put_in = [each.hyp_end_idx - each.hyp_start_idx for each in wrong]
            errors.append(sum(map(max, left_out, put_in)))
    return errors


def _old_scores_alone(first: Hypothesis, config: RerankingConfig) -> RerankingConfig:
    """What a list was ordered by; without old scores, the new model alone."""
    if first.lm is not None:
        return dataclasses.replace(config, weight=0.0, length_penalty=0.0)
    scale = config.lm_scale if first.acoustic is None else 0.0
    return RerankingConfig(weight=1.0, lm_scale=scale)
