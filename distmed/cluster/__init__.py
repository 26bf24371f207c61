"""What launches need: facts of a recipe for scripts, waiting for nodes, checks before a launch, the doctor."""
