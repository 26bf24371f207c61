"""No credential of a URL goes where others read it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from distmed.credentials import without_credentials
from distmed.evaluate.about import about_data


def test_urls_lose_their_credentials() -> None:
    plain = {"a": ["s3://bucket/x", "no url: a@b?c", 3, None]}
    assert without_credentials(plain) == plain
    for given, bare in (
        ("https://u:p@host:1/x?sig=s#f", "https://host:1/x"),
        ("https://host?sig=s", "https://host"),
        ("simplecache::https://u:p@host/a.csv?sig=s", "simplecache::https://host/a.csv"),
        ("zip://a.csv::https://u:p@host/a.zip?sig=s", "zip://a.csv::https://host/a.zip"),
        ("See https://u:p@host/x for more. Which is it? #1", "See https://host/x for more. Which is it? #1"),
        ("http://[bad/x", "http://[bad/x"),
    ):
        assert without_credentials(given) == bare


def test_evidence_names_its_data_without_them() -> None:
    read: Any = SimpleNamespace(
        source="https://ada:secret@host/a.jsonl?sig=secret",
        cases=[],
        manifest=SimpleNamespace(format="medquad", hash="5f", dropped={}),
    )
    assert about_data(read)["source"] == "https://host/a.jsonl"
