"""The training engine of Likeness."""

__version__ = "0.1.0"
