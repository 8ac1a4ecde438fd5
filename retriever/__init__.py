"""The retriever: a dual encoder that turns queries and passages into vectors."""

from .dual_encoder import DualEncoder, PassageTokens

__all__ = ["DualEncoder", "PassageTokens"]
