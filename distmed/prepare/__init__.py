"""Offline: rows become clean, sharded Parquet with a manifest."""
