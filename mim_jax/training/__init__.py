"""State, optimizer, schedules, sharding, loop, checkpoints and metric writers."""
