"""The convolutional autoencoder: see README.md beside this file."""
