"""Log-probabilities of tokens to the sums that sentences and texts are compared by."""

import numpy as np

from textgen.config import UNIT_TERMINATORS, Unit
from textgen.models.likelihood import LogProbs
from textgen.results import PartScore, SentenceScore
from textgen.scoring.prepared import Prepared
from textgen.tokenizers.base import EOS, UNK


def sentence_score(
    prepared: Prepared,
    log_probs: LogProbs,
    unit: Unit,
    *,
    spelled: bool = False,
    pseudo: bool = False,
    parts: tuple[PartScore, ...] | None = None,
) -> SentenceScore:
    """The score of one sentence, its tokens' log-probabilities summed in float64.

    log_probs: of the tokens that are scored. spelled: whether the spelling of what is unknown
    is in them. pseudo: whether each was given what comes after it.
    """
    given, ids = prepared.given, prepared.scored_ids
    unknown = ids == UNK
    terminators = int(len(ids) > 0 and ids[-1] == EOS)
    ends = terminators * len(UNIT_TERMINATORS[unit])
    return SentenceScore(
        log_prob=float(log_probs.sum()),
        tokens=len(ids),
        unknown=int(np.count_nonzero(unknown)),
        unknown_log_prob=float(log_probs[unknown].sum()),
        characters=len(given.text) + ends,
        words=len(given.text.split()) + terminators,
        bytes=len(given.text.encode("utf-8", "surrogatepass")) + ends,
        spelled=spelled,
        pseudo=pseudo,
        line=given.line,
        text=given.text,
        prefix=given.prefix,
        parts=parts,
        unknown_surfaces=prepared.unknown_surfaces,
    )
