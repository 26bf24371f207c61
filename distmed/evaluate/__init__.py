"""Predictions become evidence: discrimination, calibration, subgroups, and the floor a model must beat."""
