"""Scoring: texts to the log-probabilities of sentences and of their parts."""
