"""Generators behind one interface: autoencoder round trips and diffusion pipelines."""
