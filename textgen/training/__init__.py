"""How a model learns: the loop, its schedule, its precision, its validation, its record."""
