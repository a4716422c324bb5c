"""Gaussian-process (infinite-width) priors over functions.

May import: errors, rng, estimate, network, engine, store, philox, boolean. Never training, analysis, cli.
"""
