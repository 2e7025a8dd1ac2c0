"""Numbers told to people: pages, tables, plots and trackers."""
