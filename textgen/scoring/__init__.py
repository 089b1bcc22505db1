"""How probable a text is: ids to log-probabilities, token by token and summed."""
