"""Training a retriever and a re-ranker, alone or together: losses, lists, mining, the loop."""
