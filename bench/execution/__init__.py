"""From jobs to records: planning, launching and the steps of one run."""
