"""An iteration of reinforcement learning beside the plain way and beside TRL's GRPO."""
