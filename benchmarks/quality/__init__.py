"""``make quality``: what each detector reaches on machines that its design was not chosen with, and what it costs."""
