"""reprotui: find when, where and why two training runs that should be the same are not."""

__version__ = "0.1.0"
