"""The place of the joint trainer. Nothing is here yet."""
