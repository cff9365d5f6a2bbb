"""What a large fleet takes, and where the design breaks first: ``make fleet``.

:mod:`sizes` measures messages, states and what a group of workers tells its coordinator; :mod:`plan` makes counts of
partitions, workers, brokers and stores of them and of a stored run of ``make bench``, and finds each limit's fleet;
:mod:`simulation` places every machine, lets its frames arrive, and lets a worker fail.
"""
