"""Learning on the job: which machine learns anew when, from what, and whether what it learnt takes over.

Everything here is pure and driven by a clock that it is given: scores, alerts and verdicts come in, decisions go out.
What reads topics, keeps recordings and trains stands around it.
"""
