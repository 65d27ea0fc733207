"""From a run directory to one HTML file."""
