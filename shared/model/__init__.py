"""The K2 family of networks in plain torch: configuration, layout of checkpoints, loading, text model, vision tower.

Alone in ``shared`` it imports torch and ``kernels``. It knows nothing of requests, messages and services.
"""
