"""Analyses built on the other packages; one folder per study."""
