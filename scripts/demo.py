"""``python -m scripts.demo``: simulate a plant or take recordings, train, stream, and print each alert."""

from examples.demo.__main__ import main

if __name__ == "__main__":
    main()
