"""How the demo's base model and adapters were made; `deploy/demo/train.py` runs it."""
