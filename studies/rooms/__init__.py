"""Studies of agents in the rooms of `dreamer4_impl.examples.rooms`; see README.md."""
