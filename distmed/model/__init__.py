"""A Hugging Face model under ZeRO-3: load, head, attention between packed cases, loss."""
