"""Hyper-parameter search: Ray Tune over the worker loop of `distmed train`, whose result is a recipe."""
