"""The dense autoencoder: see README.md beside this file."""
