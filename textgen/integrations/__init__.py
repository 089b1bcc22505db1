"""Classes for other programs: one module per program, which imports it."""
