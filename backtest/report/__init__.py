"""Reports: one HTML file each, of an evaluation or a replay, that holds everything and fetches nothing."""
