"""Pictures of models: as PNG or SVG by matplotlib, or in the terminal; their numbers as rows.

Each kind of picture has a file, which turns results into a description of what is to be seen;
``lines`` describes, ``line_figure`` and ``line_terminal`` draw what is described.
"""
