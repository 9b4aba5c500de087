"""Statistics over a data set, figures and the report."""
