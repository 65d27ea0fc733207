"""Triptych against its peers, side by side in one run; each module prints one JSON line last."""
