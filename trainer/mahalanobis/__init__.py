"""The dense autoencoder's residuals, judged by their covariance: see README.md beside this file."""
