"""A small autoencoder's code and residual, judged by their covariance: see README.md beside this file."""
