"""The page of a replay: one HTML file that shows what was heard, where it alerted, and why."""
