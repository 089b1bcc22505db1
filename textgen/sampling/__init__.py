"""How a model writes: logits to a distribution, a distribution to an id, ids to a stream."""
