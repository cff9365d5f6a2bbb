"""What if: other numbers for the alert rule, tried on scores that are there already."""
