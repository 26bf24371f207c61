"""The main job: Ray Train starts workers, each runs the loop of `worker.py` over a DeepSpeed engine."""
