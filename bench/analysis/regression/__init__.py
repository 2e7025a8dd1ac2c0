"""Records before and after a change: which got worse."""
