"""distmed: fine-tune open language models for medical diagnosis, and show the evidence."""

__version__ = "0.1.0"
