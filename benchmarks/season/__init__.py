"""``make season``: a simulated plant over two months, with learning off and on, and a person who answers alerts."""
