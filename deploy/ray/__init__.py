"""Manyhats as replicas on Ray Serve: `make serve-ray`, and docs/ray.md.

An HTTP request goes from Ray's proxy to the ingress (`ingress.py`, `forwarding.py`), which reads what its `model` means
(`versions.py`) and hands it to the replica that Ray chooses by residency and load (`router.py`, `ranking.py`). The
replica (`replica.py`) is the whole application, driven by `calls.py`; files and jobs are worked on once (`workers.py`).
"""
