"""``python -m scripts.fetch_dataset mimii --kind fan``: fetch public recordings of machines."""

from examples.datasets.__main__ import main

if __name__ == "__main__":
    main()
