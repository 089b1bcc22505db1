"""Sampling: logits to a distribution, a distribution to ids, ids to text."""
