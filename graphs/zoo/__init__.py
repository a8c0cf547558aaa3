"""Sample members, built as code in the canonical dialect."""
