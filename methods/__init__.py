"""The methods that ship: one file per way of adapting, its stem is its name."""
