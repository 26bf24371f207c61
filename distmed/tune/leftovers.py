"""Places that workers held, and that nobody gives back: those of a trial whose process was killed while its workers started.

Ray keeps a placement group until both the actor and the job that made it are gone, and the job is the whole search. Ray Train's
own cleaner knows of a group only once all of its workers are there.
"""

from __future__ import annotations


def give_back() -> int:
    """Remove the placement groups of this job whose maker is dead; how many there were."""
    import ray
    from ray._private.state import state
    from ray._raylet import ActorID, PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    table = state._connect_and_get_accessor().get_placement_group_table()
    entries = map(PlacementGroupTableData.FromString, table)
    # A group that a driver made has no actor, which counts as dead.
    nobody = (b"", ActorID.nil().binary())
    left = [
        entry
        for entry in entries
        if entry.creator_job_id.hex() == job
        and entry.creator_actor_dead
        and entry.creator_actor_id not in nobody
        and entry.state != PlacementGroupTableData.REMOVED
    ]
    for entry in left:
        remove_placement_group(PlacementGroup(PlacementGroupID(entry.placement_group_id)))
    return len(left)
