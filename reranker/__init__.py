"""The re-ranker: a cross-encoder that reads a query and a passage together."""

from .cross_encoder import CrossEncoder

__all__ = ["CrossEncoder"]
