"""Classes for other programs, which bring those programs' ways of calling a model to textgen's.

None is imported before its program is.
"""
