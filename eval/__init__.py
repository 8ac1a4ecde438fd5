"""The place of the evaluation harness. Nothing is here yet."""
