"""What shows Whirr at work: the demo, and public data sets."""
