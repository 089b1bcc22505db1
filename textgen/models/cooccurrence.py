"""Initial word vectors: by what stands next to each token in the training text."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.models.base import IdArray

MOST_TOKENS = 2_000_000  # of the text that are counted
_REACH = 2  # tokens
_CONTEXT_EXPONENT, _SINGULAR_EXPONENT, _NORM = 0.75, 0.25, 3.0
_POWER_ITERATIONS = 2


def neighbour_vectors(
    ids: IdArray, vocabulary_size: int, width: int, generator: torch.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Vectors of tokens from the first two million ids of a text.

    They are factors of the positive pointwise mutual information of tokens that are at most two
    places apart, the counts of contexts to the power 3/4 (Levy, Goldberg and Dagan 2015), by a
    randomized singular value decomposition (Halko, Martinsson and Tropp 2011), in a random basis.

    Returns:
        The tokens (n,) that have neighbours, and their vectors (n, width) of mean norm 3.
    """
    text = torch.from_numpy(np.asarray(ids[:MOST_TOKENS], np.int64))
    near = [text[:-back] * vocabulary_size + text[back:] for back in range(1, _REACH + 1)]
    pairs, counts = torch.unique(torch.cat(near), return_counts=True)
    one_way = _sparse(pairs // vocabulary_size, pairs % vocabulary_size, counts, vocabulary_size)
    both_ways = (one_way + one_way.T).coalesce()
    rows, columns = both_ways.indices()
    totals = both_ways.sum(1).to_dense()  # (vocabulary,)
    contexts = totals**_CONTEXT_EXPONENT
    contexts /= contexts.sum()
    information = (both_ways.values() / totals[rows] / contexts[columns]).log().clamp(min=0)
    matrix = _sparse(rows, columns, information, vocabulary_size)
    transposed = matrix.T.coalesce()

    rank = min(width, vocabulary_size)
    basis = matrix @ torch.randn(vocabulary_size, rank, generator=generator)
    for _ in range(_POWER_ITERATIONS):
        basis = matrix @ (transposed @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q  # (vocabulary, rank)
    left, values, _ = torch.linalg.svd((transposed @ basis).T, full_matrices=False)
    factors = basis @ left * values**_SINGULAR_EXPONENT
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q[:rank]
    (found,) = totals.nonzero(as_tuple=True)
    vectors = (factors @ rotation)[found]
    vectors -= vectors.mean(0)
    norm = vectors.norm(dim=1).mean()
    if norm > 0:
        vectors *= _NORM / norm
    return found.numpy(), vectors.numpy()


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, size: int) -> Tensor:
    places = torch.stack([rows, columns])
    matrix = torch.sparse_coo_tensor(places, values.float(), (size, size), check_invariants=False)
    return matrix.coalesce()
