"""Results for people: terminal tables, pages, plots and experiment trackers."""
