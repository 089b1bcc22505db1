"""A server that speaks the completions protocol of OpenAI."""
