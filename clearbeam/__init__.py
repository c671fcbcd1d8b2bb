"""What people run: the `clearbeam` command, evaluation and experiments."""

__version__ = "0.1.0"
__all__ = ["__version__"]
