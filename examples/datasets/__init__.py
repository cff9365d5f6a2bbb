"""Public data sets: downloaded from their publishers, and laid out for training and replay."""
