"""The retriever: a dual encoder that turns queries and passages into vectors."""

from .dual_encoder import DualEncoder

__all__ = ["DualEncoder"]
