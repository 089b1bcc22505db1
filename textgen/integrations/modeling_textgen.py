"""A recurrent language model of textgen's for the package transformers, in plain PyTorch.

``textgen export --to transformers`` copies this file beside the weights, so it imports nothing of
textgen. An id of 1 is ``<EOS>``, which textgen reads before a sentence and predicts at its end.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.utils import ModelOutput

NOTHING = -1  # the id before the start of a text
HASH_FACTOR, HASH_MODULUS = 1_000_003, 2**31 - 1
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

State = tuple[Tensor, ...]
"""After some ids, batch first: the hidden state of each layer, of an LSTM followed by its cell,
each (batch, units); last, of a model with n-gram embeddings, its last ids (batch, length - 1)."""


class TextgenConfig(PreTrainedConfig):
    """The shape of a model.

    Args:
        kind: ``lstm``, ``gru`` or ``rnn``.
        embedding_size: 0 for one-hot vectors.
        hidden_sizes: Units of each layer.
        activation: Of ``rnn``: ``tanh`` or ``relu``.
        ngram_embeddings: The length of the longest n-grams that have embeddings; 0 for none.
        ngram_rows: The number of vectors for the n-grams of each length.
    """

    model_type = "textgen"

    def __init__(
        self,
        kind: str = "lstm",
        vocab_size: int = 256,
        embedding_size: int = 128,
        hidden_sizes: Sequence[int] = (512,),
        activation: str = "tanh",
        ngram_embeddings: int = 0,
        ngram_rows: int = 2**14,
        tie_word_embeddings: bool = False,
        bos_token_id: int = 1,
        eos_token_id: int = 1,
        pad_token_id: int = 1,
        **kwargs: Any,
    ) -> None:
        self.kind = kind
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_sizes = list(hidden_sizes)
        self.activation = activation
        self.ngram_embeddings = ngram_embeddings
        self.ngram_rows = ngram_rows
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id
        self.pad_token_id = pad_token_id
        # By the names that other programs look for.
        self.hidden_size = self.hidden_sizes[-1]
        self.num_hidden_layers = len(self.hidden_sizes)


@dataclass
class TextgenOutput(ModelOutput):
    """What the model predicts.

    Attributes:
        loss: Mean cross-entropy in nats per predicted label, where labels were given.
        logits: (batch, time, vocabulary), of the id after each.
        state: After the last id of each row that is not padding.
        hidden_states: (batch, time, units) of the last layer, in a tuple, where asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: State | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class TextgenForCausalLM(PreTrainedModel, GenerationMixin):
    """Embeddings or one-hot vectors, recurrent layers, and a linear layer to logits."""

    config_class = TextgenConfig
    _tied_weights_keys = {"output.weight": "embedding.weight"}  # noqa: RUF012
    _is_stateful = True  # a state cannot go back to fewer tokens

    def __init__(self, config: TextgenConfig) -> None:
        super().__init__(config)
        width = config.embedding_size or config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size, width) if config.embedding_size else None
        options = {"nonlinearity": config.activation} if config.kind == "rnn" else {}
        self.layers = nn.ModuleList(
            LAYERS[config.kind](inputs, units, batch_first=True, **options)
            for inputs, units in itertools.pairwise([width, *config.hidden_sizes])
        )
        self.output = nn.Linear(config.hidden_sizes[-1], config.vocab_size)
        self.ngram_embedding: nn.EmbeddingBag | None = None
        if config.ngram_embeddings:
            rows = (config.ngram_embeddings - 1) * config.ngram_rows
            self.ngram_embedding = nn.EmbeddingBag(rows, width, mode="sum")
        self.post_init()

    def get_input_embeddings(self) -> nn.Module | None:
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.output = new_embeddings

    def start(self, batch: int) -> State:
        """The state before a text."""
        parts = 2 if self.config.kind == "lstm" else 1
        sizes = [units for units in self.config.hidden_sizes for _ in range(parts)]
        state = tuple(self.output.bias.new_zeros(batch, units) for units in sizes)
        if self.ngram_embedding is None:
            return state
        shape = (batch, self.config.ngram_embeddings - 1)
        return *state, torch.full(shape, NOTHING, device=self.output.bias.device)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        state: State | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> TextgenOutput | tuple[Any, ...]:
        """Read ids (batch, time), after those that made ``state``.

        Args:
            attention_mask: (batch, time or more), 0 where an id is padding, on either side: what
                follows is predicted as if it were not there. Of more columns the last count.
            labels: (batch, time), usually ``input_ids``: each is predicted from the ids before it.
                -100 is not predicted, nor is padding, nor the first id.
            logits_to_keep: Compute logits for so many last steps alone; 0 for all.
        """
        real = None
        if attention_mask is not None:
            real = attention_mask[:, -input_ids.shape[1] :] != 0
            real = None if bool(real.all()) else real
        hidden, state = self._read(input_ids, real, state or self.start(len(input_ids)))
        kept = hidden if labels is not None else hidden[:, -logits_to_keep:]
        logits = self.output(kept)
        loss = None
        if labels is not None:
            if real is not None:
                known = real.clone()
                known[:, 1:] &= real[:, :-1]  # nothing is predicted from padding
                labels = labels.masked_fill(~known, -100)
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        output = TextgenOutput(
            loss=loss,
            logits=logits,
            state=None if use_cache is False else state,
            hidden_states=(hidden,) if output_hidden_states else None,
        )
        as_tuple = return_dict is False or (return_dict is None and not self.config.return_dict)
        return output.to_tuple() if as_tuple else output

    def _read(
        self, ids: Tensor, real: Tensor | None, state: Sequence[Tensor]
    ) -> tuple[Tensor, State]:
        """Hidden states (batch, time, units) of the last layer, and the state after the ids.

        real: (batch, time), false for padding; None if there is none.
        """
        order = lengths = None
        if real is not None:  # each row's ids first, then its padding
            order = torch.argsort(~real, dim=1, stable=True)
            ids, lengths = ids.gather(1, order), real.sum(1)
        if self.embedding is None:
            one_hot = functional.one_hot(ids, self.config.vocab_size)
            hidden = one_hot.to(self.output.weight.dtype)
        else:
            hidden = self.embedding(ids)
        last_ids = []
        if self.ngram_embedding is not None:
            *state, ids_before = state
            text = torch.cat([ids_before, ids], 1)
            hidden = hidden + self._ngram_vectors(text, ids.shape[1])
            read = ids.new_full((len(ids),), ids.shape[1]) if lengths is None else lengths
            columns = torch.arange(ids_before.shape[1], device=ids.device)
            last_ids = [text.gather(1, read.unsqueeze(1) + columns)]
        after: list[Tensor] = []
        parts = len(state) // len(self.layers)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.RNNBase)
            before = state[parts * index : parts * (index + 1)]
            hidden, now = self._run(layer, hidden, before, lengths)
            after += now
        if order is not None:
            back = torch.argsort(order, dim=1).unsqueeze(2)
            hidden = hidden.gather(1, back.expand_as(hidden))
        return hidden, (*after, *last_ids)

    def _run(
        self, layer: nn.RNNBase, inputs: Tensor, before: Sequence[Tensor], lengths: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One layer over inputs (batch, time, width): hidden states, and the parts of its state."""
        if inputs.is_cuda:
            layer.flatten_parameters()
        several = tuple(part.unsqueeze(0) for part in before)
        start = several if len(several) > 1 else several[0]
        if lengths is None:
            hidden, after = layer(inputs, start)
        else:
            some = lengths.clamp(min=1).cpu()  # a row that is all padding is put back below
            packed = pack_padded_sequence(inputs, some, batch_first=True, enforce_sorted=False)
            hidden, after = layer(packed, start)
            steps = inputs.shape[1]
            hidden, _ = pad_packed_sequence(hidden, batch_first=True, total_length=steps)
        now = [part.squeeze(0) for part in (after if isinstance(after, tuple) else (after,))]
        if lengths is not None:
            none = (lengths == 0).unsqueeze(1)
            now = [torch.where(none, old, new) for old, new in zip(before, now, strict=True)]
        return hidden, now

    def _ngram_vectors(self, text: Tensor, time: int) -> Tensor:
        """The sum of the vectors of the n-grams that end at each of the last ids of a text.

        text: (batch, length - 1 + time). An n-gram has the row that its ids are hashed to.
        """
        longest, rows = self.config.ngram_embeddings, self.config.ngram_rows
        text = text + 1
        hashed, places = text[:, -time:], []
        for back in range(1, longest):
            earlier = text[:, longest - 1 - back : text.shape[1] - back]
            hashed = (hashed * HASH_FACTOR + earlier) % HASH_MODULUS
            places.append(hashed % rows + (back - 1) * rows)
        assert self.ngram_embedding is not None
        vectors = self.ngram_embedding(torch.stack(places, -1).flatten(0, 1))
        return vectors.unflatten(0, (len(text), time))

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the cache is the state, which ``forward`` makes

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: State | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if state is not None:  # which knows all ids but the last
            input_ids = input_ids[:, -1:]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "state": state,
            "use_cache": use_cache,
            "logits_to_keep": kwargs.get("logits_to_keep") or 0,
            "output_hidden_states": kwargs.get("output_hidden_states"),
        }

    def _update_model_kwargs_for_generation(
        self, outputs: TextgenOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        if outputs.state is not None:  # with a cache
            model_kwargs["state"] = outputs.state
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    @staticmethod
    def _reorder_cache(state: State, beam_idx: Tensor) -> State:
        return tuple(part.index_select(0, beam_idx.to(part.device)) for part in state)
