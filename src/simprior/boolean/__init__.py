"""Boolean functions: inputs, truth tables, sampling, counting, symmetry, complexity.

May import: errors, rng, estimate, network, engine, store, philox. Never gp, training, analysis, cli.
"""
