"""What Whirr costs: ratios to other code, measured in one run."""
